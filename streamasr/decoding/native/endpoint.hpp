// Decide after each frame whether an utterance ends, by the rules of Kaldi's online-endpoint.h.
#pragma once

#include <cstdint>
#include <optional>

namespace streamasr {

enum class EndpointDecision {
  kContinue,
  kEnd,    // the utterance and its sentence end
  kSplit,  // the utterance is too long: it ends here, its sentence goes on in the next one
  kReset,  // no speech for long enough: start over without a final
};

// Limits in encoder frames.
struct EndpointRules {
  std::int32_t silence_frames;
  std::int32_t start_silence_frames;
  std::int32_t max_utterance_frames;
  std::int32_t max_overrun_frames;
  std::int32_t pause_frames;

  // Limits take effect at a frame of silence, so that a word which is just beginning is not cut off. The
  // overrun bounds the wait for such a frame.
  //
  // Args: utterance_frames, since the utterance began; trailing_silence, frames since the last token of a
  // word, none before the first word; at_word_boundary, whether no word is open; silence, whether blank or
  // the separator is the most probable token of the frame.
  EndpointDecision decide(std::int32_t utterance_frames, std::optional<std::int32_t> trailing_silence,
                          bool at_word_boundary, bool silence) const {
    if (!trailing_silence) {
      const std::int32_t overrun = utterance_frames - start_silence_frames;
      const bool is_over = (overrun >= 0 && silence) || overrun >= max_overrun_frames;
      return is_over ? EndpointDecision::kReset : EndpointDecision::kContinue;
    }
    if (silence && *trailing_silence >= silence_frames) return EndpointDecision::kEnd;
    const std::int32_t overrun = utterance_frames - max_utterance_frames;
    const bool at_pause = silence && (at_word_boundary || *trailing_silence >= pause_frames);
    const bool is_over = (overrun >= 0 && at_pause) || overrun >= max_overrun_frames;
    return is_over ? EndpointDecision::kSplit : EndpointDecision::kContinue;
  }
};

}  // namespace streamasr
