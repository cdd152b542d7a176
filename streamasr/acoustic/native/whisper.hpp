// Run the streaming step of the Whisper encoder (streamasr/acoustic/whisper.py) on streams whose states stay
// in slots: keys and values are ring buffers in the layout of the products that read them, so a step copies
// none.
//
// Shape suffixes: T frames, M mel bands, D model width, V tokens, C cached frames.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels.hpp"
#include "linear.hpp"

namespace streamasr::acoustic {

struct WhisperSizes {
  std::size_t n_mels, dim, heads, layers, stem_kernel, stem_stride;
  std::size_t merge_after_layers, merge_frames;  // 0 and 1 for no merging
  std::size_t left_context_frames, position_period_frames, vocab_size;
};

// One weight by its name in the model's file.
using GetWeight = std::function<const float*(const std::string&)>;

// The state of one stream.
struct Slot {
  Buffer<float> tails;  // the mel frames, then the stem frames, that the convolutions still need
  std::vector<Buffer<float>> keys, values;  // of each layer; see WhisperEncoder::attend
  std::int64_t stem_frames = 0;             // frames that the early layers have cached since the stream began
  std::int64_t frames = 0;                  // the same of the late layers
  std::int64_t position = 0;                // of the next frame in the table of positions
};

// One stream's part of a step.
struct StreamChunk {
  Slot* slot;
  const float* mel_TM;
  std::size_t length, advance;  // mel frames: valid ones, and those that the stream moves on by
  float* log_probs_TV;          // room for length / subsampling rows
};

class WhisperEncoder {
 public:
  // `positions` is the table [period, dim].
  WhisperEncoder(const WhisperSizes& sizes, const GetWeight& weight, const float* positions,
                 Precision precision, Instructions instructions);

  // A slot's stream begins anew. Its memory is allocated when this is first called.
  void reset(Slot& slot) const;

  // Steps streams in different slots on up to `threads` threads, the caller's included.
  void step(std::vector<StreamChunk>& chunks, std::size_t threads) const;

 private:
  struct Layer {
    Buffer<float> attention_norm, attention_norm_bias, mlp_norm, mlp_norm_bias;
    Linear qkv, out, mlp_in, mlp_out;
    std::size_t cached_frames;         // C
    decltype(Kernels::gemm_f32) gemm;  // for the attention
  };
  struct Scratch {
    Buffer<float> mel, middle, x, normed, projected, context, scores, new_keys, new_values, hidden, merged;
    QuantisedInput input;
  };

  bool is_early(std::size_t layer) const { return layer < sizes_.merge_after_layers; }
  std::size_t subsampling() const { return sizes_.stem_stride * sizes_.merge_frames; }
  void step_together(StreamChunk* chunks, std::size_t count, Scratch& scratch) const;
  // The stem's output, positions added, in `x`: length / stem_stride rows.
  void stem(StreamChunk& chunk, float* x, Scratch& scratch) const;
  void attend(const StreamChunk& chunk, std::size_t layer, const float* qkv, float* context,
              Scratch& scratch) const;
  void write_log_probs(const float* logits, std::size_t frames, float* log_probs) const;

  WhisperSizes sizes_;
  const Kernels& kernels_;
  std::size_t mel_tail_, stem_tail_;  // frames
  Linear conv1_, conv2_, merge_, head_;
  std::vector<Layer> layers_;
  Buffer<float> final_norm_, final_norm_bias_, positions_;
  mutable std::mutex scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> free_scratch_;
};

}  // namespace streamasr::acoustic
