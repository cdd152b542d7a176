// Decode chunks of many streams on several threads, each until the caller has something to do for it: its
// utterance ends, words are stable, or the chunk is used up.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "endpoint.hpp"
#include "search.hpp"

namespace streamasr {

// One stream's chunk.
struct DecodeJob {
  State state;
  const void* log_probs_TV;
  bool is_float64;         // the type of the log-probs, else float32
  std::size_t num_frames;  // T
  std::size_t next_frame;  // the first row that has not been decoded
  EndpointRules rules;
  double commit_margin;  // see Search::stable_history
  EndpointDecision decision = EndpointDecision::kContinue;
  bool stable = false;  // whether there were new stable words after the last decoded row
};

class StreamBatch {
 public:
  // At every `commit_interval`-th frame of an utterance, stable words are committed, or left to the caller.
  StreamBatch(const Search& search, std::int32_t commit_interval, bool commits)
      : search_(search), commit_interval_(commit_interval), commits_(commits) {}

  std::vector<DecodeJob> jobs;

  // Decodes all jobs on at most `num_threads` threads, the caller's included. Results do not depend on it.
  void decode(std::size_t num_threads) {
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failure_mutex;
    const auto work = [&] {
      try {
        ScratchBuffers scratch;
        for (std::size_t i; (i = next.fetch_add(1)) < jobs.size();) decode(jobs[i], scratch);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        failure = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 1; i < std::min(num_threads, jobs.size()); ++i) threads.emplace_back(work);
      work();
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  void decode(DecodeJob& job, ScratchBuffers& scratch) const {
    State& state = job.state;
    const std::size_t num_tokens = search_.tokens.pieces.size();
    while (job.next_frame < job.num_frames) {
      const std::size_t offset = job.next_frame++ * num_tokens;
      if (job.is_float64) {
        search_.prune_frame(static_cast<const double*>(job.log_probs_TV) + offset, scratch.frame);
      } else {
        search_.prune_frame(static_cast<const float*>(job.log_probs_TV) + offset, scratch.frame);
      }
      search_.advance(state, scratch.frame, scratch);
      const Beam& best = state.beams[0];
      const std::int32_t speech_end = state.speech_end();
      if (speech_end >= 0 && state.speech_start < 0) state.speech_start = speech_start(state, best);
      const std::int32_t best_token = scratch.frame.best_token;
      const bool silence = best_token == search_.tokens.blank || best_token == search_.tokens.separator;
      const auto trailing_silence =
          speech_end < 0 ? std::nullopt : std::optional(state.num_frames - speech_end);
      const double sentence_end = silence && job.rules.depends_on_words(trailing_silence)
                                      ? search_.sentence_end_log_prob(state)
                                      : 0.0;
      job.decision = job.rules.decide(state.num_frames, trailing_silence, best.partial_word == kNoLetters,
                                      silence, sentence_end);
      if (job.decision == EndpointDecision::kContinue && is_too_long(state))
        job.decision = EndpointDecision::kSplit;
      if (job.decision != EndpointDecision::kContinue) return;
      if (state.num_frames % commit_interval_ == 0) {
        const NodeId stable = search_.stable_history(state, job.commit_margin);
        job.stable = state.histories[stable].num_words > state.histories[state.committed].num_words;
        if (job.stable && commits_) search_.commit(state, stable);
        if (job.stable) return;
      }
    }
  }

  static std::int32_t speech_start(const State& state, const Beam& beam) {
    std::int32_t start = beam.start;
    for (NodeId id = beam.path; id != kNoNode; id = state.path_tokens[id].parent) {
      start = state.path_tokens[id].start;
    }
    return start;
  }

  // Whether the best path alone has half of the tokens that all paths may have. It then splits, whatever the
  // endpoint rules allow.
  bool is_too_long(const State& state) const {
    return 2 * static_cast<std::size_t>(state.path_length(state.beams[0].path)) >=
           search_.config.max_path_tokens;
  }

  const Search& search_;
  const std::int32_t commit_interval_;
  const bool commits_;
};

}  // namespace streamasr
