// Run the streaming step of the FastConformer encoder (streamasr/acoustic/fastconformer) in slots.
//
// Shape suffixes: T frames, D model width, N distances, V tokens.
#pragma once

#include "encoder.hpp"
#include "fastconformer_stem.hpp"

namespace streamasr::acoustic {

struct FastConformerSizes {
  std::size_t n_mels, dim, heads, layers, subsampling, subsampling_channels, feed_forward_factor, conv_kernel;
  std::size_t left_context_frames;
  std::size_t longest_frames;  // encoder frames of the longest step
  bool scale_input;
  std::size_t vocab_size;
};

class FastConformerEncoder final : public Encoder {
 public:
  // `distances` are sinusoids [N, dim] of the distances of RelativePositions.
  FastConformerEncoder(const FastConformerSizes& sizes, const GetWeight& weight, const float* distances,
                       Precision precision, Instructions instructions);

  void reset(Slot& slot) const override;
  std::size_t frames(const Slot& slot, std::size_t length) const override;
  void check(std::size_t length, std::size_t advance) const override;

 private:
  struct FeedForward {
    LayerNorm norm;
    Linear in, out;  // half of the output: the module is half a step
  };
  struct Layer {
    FeedForward first, second;
    LayerNorm attention_norm, convolution_norm, mixed_norm, out_norm;
    Linear qkv, attention_out, expand, convolution_out;
    RingAttention attention;
    RelativePositions positions;
    Buffer<float> depthwise, depthwise_bias;  // [kernel, dim], [dim]
  };

  Layer make_layer(const GetWeight& weight, const std::string& name, const float* distances,
                   Precision precision) const;
  void step_together(StreamChunk* chunks, std::size_t count, Scratch& scratch) const override;
  // x += half a feed-forward step.
  void feed_forward(const FeedForward& module, float* x, std::size_t rows, Scratch& scratch) const;
  // x += the convolution module, for chunks of `frames` rows each.
  void convolve(const Layer& layer, std::size_t l, const StreamChunk* chunks,
                const std::vector<std::size_t>& frames, float* x, std::size_t rows, Scratch& scratch) const;
  std::size_t left_padding(const Slot& slot) const;

  FastConformerSizes sizes_;
  FastConformerStem stem_;
  std::vector<Layer> layers_;
};

}  // namespace streamasr::acoustic
