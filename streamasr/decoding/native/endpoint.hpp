// Decide after each frame whether an utterance ends, by the rules of Kaldi's online-endpoint.h, with a
// silence that depends on how probable the end of the sentence is.
#pragma once

#include <cmath>
#include <cstdint>
#include <optional>

namespace streamasr {

enum class EndpointDecision {
  kContinue,
  kEnd,    // the utterance and its sentence end
  kSplit,  // the utterance is too long: it ends here, its sentence goes on in the next one
  kReset,  // no speech for long enough: start over without a final
};

// The log-odds that an utterance ends in a pause (logistic regression).
struct EndOdds {
  double bias;
  double silence;   // weight of the natural logarithm of the pause's frames so far
  double sentence;  // weight of the natural-log probability that the sentence ends after its words

  double log_odds(std::int32_t trailing_silence, double sentence_end_log_prob) const {
    return bias + silence * std::log(static_cast<double>(trailing_silence)) +
           sentence * sentence_end_log_prob;
  }
};

// Limits in encoder frames.
struct EndpointRules {
  std::int32_t min_silence_frames;  // an utterance ends after so much silence if its end is probable …
  std::int32_t max_silence_frames;  // … and after so much silence in any case
  std::int32_t start_silence_frames;
  std::int32_t max_utterance_frames;
  std::int32_t max_overrun_frames;
  std::int32_t pause_frames;
  EndOdds end_odds;
  double min_log_odds;  // from which the end is probable

  // Whether the decision depends on the probability that the sentence ends.
  bool depends_on_words(std::optional<std::int32_t> trailing_silence) const {
    return trailing_silence && *trailing_silence >= min_silence_frames &&
           *trailing_silence < max_silence_frames;
  }

  // Limits take effect at a frame of silence, so that a word which is just beginning is not cut off. The
  // overrun bounds the wait for such a frame.
  //
  // Args: utterance_frames, since the utterance began; trailing_silence, frames since the last token of a
  // word, none before the first word; at_word_boundary, whether no word is open; silence, whether blank or
  // the separator is the most probable token of the frame; sentence_end_log_prob, used if depends_on_words.
  EndpointDecision decide(std::int32_t utterance_frames, std::optional<std::int32_t> trailing_silence,
                          bool at_word_boundary, bool silence, double sentence_end_log_prob) const {
    if (!trailing_silence) {
      const std::int32_t overrun = utterance_frames - start_silence_frames;
      const bool is_over = (overrun >= 0 && silence) || overrun >= max_overrun_frames;
      return is_over ? EndpointDecision::kReset : EndpointDecision::kContinue;
    }
    if (silence && *trailing_silence >= max_silence_frames) return EndpointDecision::kEnd;
    if (silence && depends_on_words(trailing_silence) &&
        end_odds.log_odds(*trailing_silence, sentence_end_log_prob) >= min_log_odds) {
      return EndpointDecision::kEnd;
    }
    const std::int32_t overrun = utterance_frames - max_utterance_frames;
    const bool at_pause = silence && (at_word_boundary || *trailing_silence >= pause_frames);
    const bool is_over = (overrun >= 0 && at_pause) || overrun >= max_overrun_frames;
    return is_over ? EndpointDecision::kSplit : EndpointDecision::kContinue;
  }
};

}  // namespace streamasr
