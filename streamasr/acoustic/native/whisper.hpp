// Run the streaming step of the Whisper encoder (streamasr/acoustic/whisper.py) in slots.
//
// Shape suffixes: T frames, M mel bands, D model width, V tokens, C cached frames.
#pragma once

#include "encoder.hpp"

namespace streamasr::acoustic {

struct WhisperSizes {
  std::size_t n_mels, dim, heads, layers, stem_kernel, stem_stride;
  std::size_t merge_after_layers, merge_frames;  // 0 and 1 for no merging
  std::size_t left_context_frames, position_period_frames, vocab_size;
};

class WhisperEncoder final : public Encoder {
 public:
  // `positions` is the table [period, dim].
  WhisperEncoder(const WhisperSizes& sizes, const GetWeight& weight, const float* positions,
                 Precision precision, Instructions instructions);

  void reset(Slot& slot) const override;
  std::size_t frames(const Slot&, std::size_t length) const override { return length / subsampling(); }

 private:
  struct Layer {
    LayerNorm attention_norm, mlp_norm;
    Linear qkv, out, mlp_in, mlp_out;
    RingAttention attention;
  };

  bool is_early(std::size_t layer) const { return layer < sizes_.merge_after_layers; }
  void step_together(StreamChunk* chunks, std::size_t count, Scratch& scratch) const override;
  // The stem's output, positions added, in `x`: length / stem_stride rows.
  void stem(StreamChunk& chunk, float* x, Scratch& scratch) const;

  WhisperSizes sizes_;
  std::size_t mel_tail_, stem_tail_;  // frames
  Linear conv1_, conv2_, merge_;
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  Buffer<float> positions_;
};

}  // namespace streamasr::acoustic
