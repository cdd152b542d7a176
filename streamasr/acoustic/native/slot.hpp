// Hold the state of one stream, and its part of a step.
//
// Shape suffixes: T frames, M mel bands, V tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "linear.hpp"

namespace streamasr::acoustic {

// The cached keys and values of one layer; see RingAttention.
struct Ring {
  Buffer<float> keys, values;
  std::int64_t frames = 0;  // that were cached since the stream began; the newest of them are in the ring
};

struct Slot {
  Buffer<float> tails;        // the frames that convolutions still need; see each encoder's reset
  std::vector<Ring> rings;    // of each layer; none before the slot's first stream
  std::int64_t position = 0;  // of the next frame in the table of positions, if the encoder has one
};

struct StreamChunk {
  Slot* slot;
  const float* mel_TM;
  std::size_t length, advance;  // mel frames: valid ones, and those that the stream moves on by
  float* log_probs_TV;          // room for the encoder frames of `length`
};

}  // namespace streamasr::acoustic
