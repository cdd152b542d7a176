#include "whisper.hpp"

#include <algorithm>
#include <cmath>

namespace streamasr::acoustic {
namespace {

constexpr std::size_t kStreamsTogether = 2;

// A convolution's weight [n, channels, kernel] as the matrix [n, kernel * channels] that multiplies adjacent
// frames.
std::vector<float> as_matrix(const float* weight, std::size_t n, std::size_t channels, std::size_t kernel) {
  std::vector<float> matrix(n * kernel * channels);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t c = 0; c < channels; ++c)
      for (std::size_t k = 0; k < kernel; ++k)
        matrix[(i * kernel + k) * channels + c] = weight[(i * channels + c) * kernel + k];
  return matrix;
}

}  // namespace

WhisperEncoder::WhisperEncoder(const WhisperSizes& sizes, const GetWeight& weight, const float* positions,
                               Precision precision, Instructions instructions)
    : Encoder(kernels_for(instructions), sizes.n_mels, sizes.stem_stride * sizes.merge_frames,
              kStreamsTogether),
      sizes_(sizes),
      mel_tail_(sizes.stem_kernel - 1),
      stem_tail_(sizes.stem_kernel - sizes.stem_stride) {
  const std::size_t dim = sizes.dim, width = dim / sizes.heads;
  const auto linear = [&](const std::string& name, std::size_t n, std::size_t k, Precision precision) {
    return Linear(weight(name + ".weight"), weight(name + ".bias"), n, k, precision);
  };
  const auto conv = [&](const std::string& name, std::size_t channels, Precision precision) {
    const auto matrix = as_matrix(weight(name + ".weight"), dim, channels, sizes.stem_kernel);
    return Linear(matrix.data(), weight(name + ".bias"), dim, channels * sizes.stem_kernel, precision);
  };
  // Later layers would amplify rounding errors of the stem and of the first attention.
  const Precision first = precision == Precision::kFloat32 ? Precision::kWide : precision;
  const Precision stem = precision == Precision::kFloat32 ? Precision::kWide : Precision::kFloat32;
  conv1_ = conv("conv1", sizes.n_mels, stem);
  conv2_ = conv("conv2", dim, stem);
  if (sizes.merge_after_layers) merge_ = linear("merge", dim, sizes.merge_frames * dim, precision);
  head_ = linear("head", sizes.vocab_size, dim, Precision::kFloat32);
  final_norm_ = LayerNorm(weight, "final_norm", dim);
  positions_ = copied(positions, sizes.position_period_frames * dim);
  for (std::size_t i = 0; i < sizes.layers; ++i) {
    const std::string name = "blocks." + std::to_string(i);
    Layer& layer = layers_.emplace_back();
    layer.attention_norm = LayerNorm(weight, name + ".attention_norm", dim);
    layer.mlp_norm = LayerNorm(weight, name + ".mlp_norm", dim);
    // The queries' scale is part of their weights.
    std::vector<float> qkv(3 * dim * dim), bias(3 * dim);
    std::copy_n(weight(name + ".qkv.weight"), qkv.size(), qkv.data());
    std::copy_n(weight(name + ".qkv.bias"), bias.size(), bias.data());
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    for (std::size_t at = 0; at < dim * dim; ++at) qkv[at] *= scale;
    for (std::size_t at = 0; at < dim; ++at) bias[at] *= scale;
    layer.qkv = Linear(qkv.data(), bias.data(), 3 * dim, dim, i == 0 ? first : precision);
    layer.out = linear(name + ".out", dim, dim, i == 0 ? first : precision);
    const auto gemm = i == 0 && first == Precision::kWide ? kernels_.gemm_wide : kernels_.gemm_f32;
    const std::size_t cached = sizes.left_context_frames * (is_early(i) ? sizes.merge_frames : 1);
    layer.attention = RingAttention(kernels_, gemm, sizes.heads, width, cached);
    layer.mlp_in = linear(name + ".mlp_in", 4 * dim, dim, precision);
    layer.mlp_out = linear(name + ".mlp_out", dim, 4 * dim, precision);
  }
}

void WhisperEncoder::reset(Slot& slot) const {
  if (slot.rings.empty()) {
    slot.tails = Buffer<float>(mel_tail_ * sizes_.n_mels + stem_tail_ * sizes_.dim);
    slot.rings.resize(layers_.size());
  }
  std::fill_n(slot.tails.data(), slot.tails.size(), 0.0f);
  for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l].attention.reset(slot.rings[l]);
  slot.position = 0;
}

void WhisperEncoder::step_together(StreamChunk* chunks, std::size_t count, Scratch& s) const {
  const std::size_t dim = sizes_.dim;
  const auto stem_frames = [&](const StreamChunk& chunk) { return chunk.length / sizes_.stem_stride; };
  const auto late_frames = [&](const StreamChunk& chunk) { return chunk.length / subsampling(); };
  std::size_t rows = 0;
  for (std::size_t i = 0; i < count; ++i) rows += stem_frames(chunks[i]);
  float* x = s.x.at_least(rows * dim);
  for (std::size_t i = 0, row = 0; i < count; row += stem_frames(chunks[i++]))
    stem(chunks[i], x + row * dim, s);

  float* normed = s.normed.at_least(rows * dim);
  float* qkv = s.projected.at_least(rows * 3 * dim);
  float* context = s.context.at_least(rows * dim);
  float* hidden = s.hidden.at_least(rows * 4 * dim);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    if (l == sizes_.merge_after_layers && l > 0) {
      const std::size_t merge = sizes_.merge_frames;
      float* merged = s.middle.at_least(rows / merge * dim + dim);
      std::size_t from = 0, to = 0;
      for (std::size_t i = 0; i < count; ++i) {
        merge_.apply(kernels_, x + from * dim, merge * dim, late_frames(chunks[i]), merged + to * dim, dim,
                     false, s.input);
        from += stem_frames(chunks[i]);
        to += late_frames(chunks[i]);
      }
      rows = to;
      std::copy_n(merged, rows * dim, x);
    }
    const Layer& layer = layers_[l];
    layer.attention_norm.apply(kernels_, x, rows, normed);
    layer.qkv.apply(kernels_, normed, dim, rows, qkv, 3 * dim, false, s.input);
    const std::size_t frame_mels = is_early(l) ? sizes_.stem_stride : subsampling();
    for (std::size_t i = 0, row = 0; i < count; ++i) {
      const StreamChunk& chunk = chunks[i];
      const std::size_t frames = chunk.length / frame_mels, kept = chunk.advance / frame_mels;
      layer.attention.attend(chunk.slot->rings[l], qkv + row * 3 * dim, frames, kept, context + row * dim,
                             nullptr, s.attention);
      row += frames;
    }
    layer.out.apply(kernels_, context, dim, rows, x, dim, true, s.input);
    layer.mlp_norm.apply(kernels_, x, rows, normed);
    layer.mlp_in.apply(kernels_, normed, dim, rows, hidden, 4 * dim, false, s.input);
    kernels_.gelu(hidden, rows * 4 * dim);
    layer.mlp_out.apply(kernels_, hidden, 4 * dim, rows, x, dim, true, s.input);
  }
  final_norm_.apply(kernels_, x, rows, normed);
  std::vector<std::size_t> frames;
  for (std::size_t i = 0; i < count; ++i) {
    frames.push_back(late_frames(chunks[i]));
    Slot& slot = *chunks[i].slot;
    const auto stem_advance = static_cast<std::int64_t>(chunks[i].advance / sizes_.stem_stride);
    slot.position = (slot.position + stem_advance) % static_cast<std::int64_t>(sizes_.position_period_frames);
  }
  write_log_probs(chunks, frames, normed, dim, s);
}

void WhisperEncoder::stem(StreamChunk& chunk, float* x, Scratch& s) const {
  const std::size_t dim = sizes_.dim, bands = n_mels(), length = chunk.length;
  Slot& slot = *chunk.slot;
  float *mel_tail = slot.tails.data(), *stem_tail = mel_tail + mel_tail_ * bands;
  float* mel = s.mel.at_least((mel_tail_ + length) * bands);
  std::copy_n(mel_tail, mel_tail_ * bands, mel);
  std::copy_n(chunk.mel_TM, length * bands, mel + mel_tail_ * bands);
  float* middle = s.middle.at_least((stem_tail_ + length) * dim);
  std::copy_n(stem_tail, stem_tail_ * dim, middle);
  // Frames follow one another in memory, so a convolution is a product with overlapping rows.
  float* fresh = middle + stem_tail_ * dim;
  conv1_.apply(kernels_, mel, bands, length, fresh, dim, false, s.input);
  kernels_.gelu(fresh, length * dim);
  const std::size_t rows = length / sizes_.stem_stride;
  conv2_.apply(kernels_, middle, sizes_.stem_stride * dim, rows, x, dim, false, s.input);
  kernels_.gelu(x, rows * dim);
  for (std::size_t row = 0; row < rows; ++row) {
    const std::size_t place = (static_cast<std::size_t>(slot.position) + row) % sizes_.position_period_frames;
    const float* position = positions_.data() + place * dim;
    for (std::size_t i = 0; i < dim; ++i) x[row * dim + i] += position[i];
  }
  std::copy_n(mel + chunk.advance * bands, mel_tail_ * bands, mel_tail);
  std::copy_n(middle + chunk.advance * dim, stem_tail_ * dim, stem_tail);
}

}  // namespace streamasr::acoustic
