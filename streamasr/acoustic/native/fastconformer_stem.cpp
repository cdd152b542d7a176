#include "fastconformer_stem.hpp"

#include <algorithm>
#include <array>

namespace streamasr::acoustic {
namespace {

constexpr std::size_t kKernel = 3, kStride = 2, kTaps = kKernel * kKernel;
constexpr std::size_t kPaddingBelow = 2;  // bands; one above

}  // namespace

FastConformerStem::FastConformerStem(const Kernels& kernels, const GetWeight& weight, std::size_t n_mels,
                                     std::size_t stages, std::size_t channels, std::size_t dim, float scale)
    : kernels_(&kernels), channels_(channels) {
  std::size_t bands = n_mels;
  for (std::size_t i = 0; i < stages; ++i) {
    const std::string name = "stem.stages." + std::to_string(i);
    Stage& stage = stages_.emplace_back();
    stage.bands = bands;
    stage.channels = i == 0 ? 1 : channels;
    if (i > 0) {
      const float* taps = weight(name + ".depthwise.weight");
      stage.depthwise = Buffer<float>(kTaps * channels);
      for (std::size_t c = 0; c < channels; ++c)
        for (std::size_t tap = 0; tap < kTaps; ++tap)
          stage.depthwise.data()[tap * channels + c] = taps[c * kTaps + tap];
      stage.depthwise_bias = copied(weight(name + ".depthwise.bias"), channels);
    }
    stage.mixing = Linear(weight(name + ".mixing.weight"), weight(name + ".mixing.bias"), channels,
                          i == 0 ? kTaps : channels, Precision::kFloat32);
    bands = stage.bands_out();
  }
  // PyTorch's features are [C, W], those of extract [W, C].
  const float* out = weight("stem.out.weight");
  std::vector<float> matrix(dim * bands * channels), bias(dim);
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t w = 0; w < bands; ++w)
        matrix[(i * bands + w) * channels + c] = out[(i * channels + c) * bands + w] * scale;
    bias[i] = weight("stem.out.bias")[i] * scale;
  }
  out_ = Linear(matrix.data(), bias.data(), dim, bands * channels, Precision::kFloat32);
}

std::size_t FastConformerStem::tail_size() const {
  std::size_t size = 0;
  for (const Stage& stage : stages_) size += stage.frame_size();
  return size;
}

void FastConformerStem::extract(const float* mel_TM, std::size_t first, std::size_t length,
                                std::size_t frames, float* tails, float* out, Scratch& s) const {
  const std::size_t subsampling = std::size_t{1} << stages_.size();
  // The buffers of the stages' inputs lie one after another: a carried frame, then those of an encoder frame.
  std::size_t size = 0;
  for (std::size_t i = 0; i < stages_.size(); ++i) size += ((subsampling >> i) + 1) * stages_[i].frame_size();
  float* const inputs = s.mel.at_least(size);
  for (std::size_t frame = 0; frame < frames; ++frame, first = 0) {
    const float* mel = mel_TM + frame * subsampling * stages_[0].bands;
    std::size_t begin = first, end = std::min(length - frame * subsampling, subsampling);
    float *input = inputs, *tail = tails;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const Stage& stage = stages_[i];
      const std::size_t width = stage.frame_size(), count = subsampling >> i;
      float* fresh = input + width;
      if (i == 0) std::copy_n(mel, end * width, fresh);
      std::copy_n(tail, width, input);
      std::fill_n(fresh, std::min(begin, count) * width, 0.0f);
      std::fill(fresh + end * width, fresh + count * width, 0.0f);
      std::copy_n(input + end * width, width, tail);
      const bool last = i + 1 == stages_.size();
      float* next = input + (count + 1) * width;
      run(stage, input, count / kStride, last ? out + frame * features() : next + stages_[i + 1].frame_size(),
          s);
      input = next;
      tail += width;
      begin /= kStride;
      end = (end + 1) / kStride;
    }
  }
}

void FastConformerStem::run(const Stage& stage, const float* input, std::size_t frames, float* out,
                            Scratch& s) const {
  const std::size_t bands = stage.bands_out(), rows = frames * bands, channels = stage.channels;
  const std::size_t inputs = stage.depthwise.size() ? channels : kTaps;
  float* mixed = s.middle.at_least(rows * inputs);
  for (std::size_t row = 0; row < rows; ++row) {
    const float* corner = input + row / bands * kStride * stage.frame_size();
    std::array<const float*, kTaps> taps;
    for (std::size_t tap = 0; tap < kTaps; ++tap) {
      const std::size_t padded_band = row % bands * kStride + tap % kKernel;
      const bool inside = padded_band >= kPaddingBelow && padded_band < kPaddingBelow + stage.bands;
      taps[tap] = inside
                      ? corner + tap / kKernel * stage.frame_size() + (padded_band - kPaddingBelow) * channels
                      : nullptr;
    }
    float* to = mixed + row * inputs;
    if (stage.depthwise.size()) {
      kernels_->depthwise(taps.data(), kTaps, stage.depthwise.data(), stage.depthwise_bias.data(), channels,
                          to);
    } else {
      for (std::size_t tap = 0; tap < kTaps; ++tap) to[tap] = taps[tap] ? *taps[tap] : 0.0f;
    }
  }
  stage.mixing.apply(*kernels_, mixed, inputs, rows, out, channels_, false, s.input);
  kernels_->relu(out, rows * channels_);
}

void FastConformerStem::project(const float* features, std::size_t rows, float* x,
                                QuantisedInput& scratch) const {
  out_.apply(*kernels_, features, this->features(), rows, x, out_.outputs(), false, scratch);
}

}  // namespace streamasr::acoustic
