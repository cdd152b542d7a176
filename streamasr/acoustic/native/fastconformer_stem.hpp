// Subsample mel frames as FastConformer's stem does (streamasr/acoustic/fastconformer/stem.py).
//
// Shape suffixes: T frames, M mel bands, W bands of a stage, C channels.
#pragma once

#include "encoder.hpp"

namespace streamasr::acoustic {

class FastConformerStem {
 public:
  FastConformerStem() = default;
  // The output is multiplied by `scale`.
  FastConformerStem(const Kernels& kernels, const GetWeight& weight, std::size_t n_mels, std::size_t stages,
                    std::size_t channels, std::size_t dim, float scale);

  // Floats that the stages carry from step to step: the newest frame of the input of each.
  std::size_t tail_size() const;
  // Values of an encoder frame before the last linear layer.
  std::size_t features() const { return stages_.back().bands_out() * channels_; }

  // Writes the features of `frames` encoder frames [frames, features()]. Each stage's input is zero before
  // its part of mel frame `first` and after its part of mel frame `length`.
  void extract(const float* mel_TM, std::size_t first, std::size_t length, std::size_t frames, float* tails,
               float* out, Scratch& scratch) const;
  // Maps features [rows, features()] to x [rows, dim].
  void project(const float* features, std::size_t rows, float* x, QuantisedInput& scratch) const;

 private:
  struct Stage {
    std::size_t bands, channels;              // of its input
    Buffer<float> depthwise, depthwise_bias;  // [taps, channels] and [channels]; the first stage has none
    Linear mixing;

    std::size_t bands_out() const { return bands / 2 + 1; }
    std::size_t frame_size() const { return bands * channels; }
  };

  // Maps `frames` output frames; `input` holds 2 * frames + 1 frames [W, C], the first one carried.
  void run(const Stage& stage, const float* input, std::size_t frames, float* out, Scratch& scratch) const;

  const Kernels* kernels_ = nullptr;
  std::size_t channels_ = 0;
  std::vector<Stage> stages_;
  Linear out_;
};

}  // namespace streamasr::acoustic
