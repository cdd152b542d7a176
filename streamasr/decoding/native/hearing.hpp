// Hearing frames until something is to be done about them: an utterance ends, words settle, or the frames
// run out. Many streams at once, on as many threads as are allowed. Knows no words and no Python.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "search.hpp"

namespace streamasr {

enum class Verdict { goes_on, ends, splits, heard_nothing };

// When an utterance ends, in frames (the rules of Kaldi's online-endpoint.h).
struct EndpointRules {
  std::int32_t silence;
  std::int32_t start_silence;
  std::int32_t max_utterance;
  std::int32_t max_overrun;
  std::int32_t pause;

  // Limits wait for a quiet frame, so that a word which is just beginning is not cut off from its utterance;
  // the overrun bounds the wait.
  //
  // Args: frames, since the utterance began; silent, since the last token of a word, none before the first;
  // between_words, after a separator; quiet, whether blank or separator is the most probable token.
  Verdict judge(std::int32_t frames, std::optional<std::int32_t> silent, bool between_words, bool quiet) const {
    if (!silent) {
      const std::int32_t over = frames - start_silence;
      return (over >= 0 && quiet) || over >= max_overrun ? Verdict::heard_nothing : Verdict::goes_on;
    }
    if (quiet && *silent >= silence) return Verdict::ends;
    const std::int32_t over = frames - max_utterance;
    const bool at_pause = quiet && (between_words || *silent >= pause);
    return (over >= 0 && at_pause) || over >= max_overrun ? Verdict::splits : Verdict::goes_on;
  }
};

// One stream's part in a round.
struct Turn {
  State state;
  const void* log_probs_TV;
  bool doubles;          // whether the log-probs are double, else float
  std::size_t frames;    // T
  std::size_t heard = 0; // how many of them have been heard
  EndpointRules rules;
  double commit_margin;  // see Search::settled
  Verdict verdict = Verdict::goes_on;
  bool settled = false;  // whether words have just been committed
};

class Hearing {
 public:
  // commit_every: words are committed at every so many frames of an utterance.
  Hearing(const Search& search, std::int32_t commit_every) : search_(search), commit_every_(commit_every) {}

  // Hears frames until there is a verdict, words settle, or no frame is left.
  void hear(Turn& turn, Workspace& work) const {
    State& state = turn.state;
    const std::size_t width = search_.tokens.pieces.size();
    while (turn.heard < turn.frames) {
      const std::size_t at = turn.heard++ * width;
      if (turn.doubles) {
        search_.cut(static_cast<const double*>(turn.log_probs_TV) + at, work.frame);
      } else {
        search_.cut(static_cast<const float*>(turn.log_probs_TV) + at, work.frame);
      }
      search_.advance(state, work.frame, work);
      const Beam& best = state.beams[0];
      const std::int32_t speech_end =
          best.open ? best.end : best.spoken != kNoNode ? state.spoken[best.spoken].end : -1;
      if (speech_end >= 0 && state.speech_start < 0) state.speech_start = speech_start(state, best);
      const bool quiet = work.frame.best == search_.tokens.blank || work.frame.best == search_.tokens.separator;
      const auto silent = speech_end < 0 ? std::nullopt : std::optional(state.frames - speech_end);
      turn.verdict = turn.rules.judge(state.frames, silent, best.part == 0, quiet);
      if (turn.verdict == Verdict::goes_on && too_long(state)) turn.verdict = Verdict::splits;
      if (turn.verdict != Verdict::goes_on) return;
      if (state.frames % commit_every_ == 0 && commit_settled(state, turn.commit_margin)) {
        turn.settled = true;
        return;
      }
    }
  }

  // The same for many turns; the outcome does not depend on how many threads there are.
  void hear_all(std::vector<Turn>& turns, std::size_t threads) const {
    std::atomic<std::size_t> next{0};
    std::exception_ptr failure;
    std::mutex failing;
    const auto take_turns = [&] {
      try {
        Workspace work;
        for (std::size_t at; (at = next.fetch_add(1)) < turns.size();) hear(turns[at], work);
      } catch (...) {
        const std::lock_guard lock(failing);
        failure = std::current_exception();
      }
    };
    {
      std::vector<std::jthread> others;
      for (std::size_t i = 1; i < std::min(threads, turns.size()); ++i) others.emplace_back(take_turns);
      take_turns();
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  static std::int32_t speech_start(const State& state, const Beam& beam) {
    std::int32_t start = beam.start;
    for (NodeId id = beam.spoken; id != kNoNode; id = state.spoken[id].before) start = state.spoken[id].start;
    return start;
  }

  // Whether the best text alone is half of all that may be remembered, whatever the endpoint rules allow.
  bool too_long(const State& state) const {
    return 2 * static_cast<std::size_t>(state.length(state.beams[0].spoken)) >= search_.config.max_path_tokens;
  }

  // Commits the words that every beam which can still win begins with; false if there are none new.
  bool commit_settled(State& state, double margin) const {
    const NodeId settled = search_.settled(state, margin);
    if (state.contexts[settled].words <= state.contexts[state.committed].words) return false;
    search_.commit(state, settled);
    return true;
  }

  const Search& search_;
  const std::int32_t commit_every_;
};

}  // namespace streamasr
