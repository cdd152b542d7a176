#include "fastconformer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <stdexcept>

namespace streamasr::acoustic {
namespace {

constexpr std::size_t kStreamsTogether = 8;

std::vector<float> scaled(const float* values, std::size_t count, float scale) {
  std::vector<float> result(count);
  if (values)
    for (std::size_t i = 0; i < count; ++i) result[i] = values[i] * scale;
  return result;
}

// The layer of that name with its output multiplied by `scale`; models without biases have zeros.
Linear linear(const GetWeight& weight, const std::string& name, std::size_t n, std::size_t k,
              Precision precision, float scale = 1.0f) {
  return Linear(scaled(weight(name + ".weight"), n * k, scale).data(),
                scaled(weight(name + ".bias"), n, scale).data(), n, k, precision);
}

}  // namespace

FastConformerEncoder::FastConformerEncoder(const FastConformerSizes& sizes, const GetWeight& weight,
                                           const float* distances, Precision precision,
                                           Instructions instructions)
    : Encoder(kernels_for(instructions), sizes.n_mels, sizes.subsampling, kStreamsTogether),
      sizes_(sizes),
      stem_(kernels_, weight, sizes.n_mels, static_cast<std::size_t>(std::countr_zero(sizes.subsampling)),
            sizes.subsampling_channels, sizes.dim,
            sizes.scale_input ? std::sqrt(static_cast<float>(sizes.dim)) : 1.0f) {
  for (std::size_t l = 0; l < sizes.layers; ++l)
    layers_.push_back(make_layer(weight, "blocks." + std::to_string(l), distances, precision));
  head_ = linear(weight, "head", sizes.vocab_size, sizes.dim, Precision::kFloat32);
}

FastConformerEncoder::Layer FastConformerEncoder::make_layer(const GetWeight& weight, const std::string& name,
                                                             const float* distances,
                                                             Precision precision) const {
  const std::size_t dim = sizes_.dim, width = dim / sizes_.heads, kernel = sizes_.conv_kernel;
  const std::size_t inner = dim * sizes_.feed_forward_factor, cached = sizes_.left_context_frames;
  const auto norm = [&](const std::string& part) { return LayerNorm(weight, name + part, dim); };
  const auto feed_forward = [&](const std::string& part) {
    return FeedForward{norm(part + "_norm"), linear(weight, name + part + ".0", inner, dim, precision),
                       linear(weight, name + part + ".3", dim, inner, precision, 0.5f)};
  };
  Layer layer;
  layer.first = feed_forward(".first");
  layer.second = feed_forward(".second");
  layer.attention_norm = norm(".attention_norm");
  layer.convolution_norm = norm(".convolution_norm");
  layer.mixed_norm = norm(".convolution.norm");
  layer.out_norm = norm(".out_norm");

  // The queries' scale, and the bias of those that meet keys of content, are part of their weights. Those
  // that meet keys of positions have another bias.
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  const float* content_bias = weight(name + ".attention.content_bias_HK");
  const float* position_bias = weight(name + ".attention.position_bias_HK");
  std::vector<float> qkv = scaled(weight(name + ".attention.qkv.weight"), 3 * dim * dim, 1.0f);
  std::vector<float> bias = scaled(weight(name + ".attention.qkv.bias"), 3 * dim, 1.0f), change(dim);
  for (std::size_t i = 0; i < dim * dim; ++i) qkv[i] *= scale;
  for (std::size_t i = 0; i < dim; ++i) {
    bias[i] = (bias[i] + content_bias[i]) * scale;
    change[i] = (position_bias[i] - content_bias[i]) * scale;
  }
  layer.qkv = Linear(qkv.data(), bias.data(), 3 * dim, dim, precision);
  layer.attention_out = linear(weight, name + ".attention.out", dim, dim, precision);
  layer.attention = RingAttention(kernels_, kernels_.gemm_f32, sizes_.heads, width, cached);
  const std::size_t count = cached + 2 * sizes_.longest_frames - 1;
  std::vector<float> keys(count * dim), no_bias(dim);
  QuantisedInput unused;
  Linear(weight(name + ".attention.position.weight"), no_bias.data(), dim, dim, Precision::kWide)
      .apply(kernels_, distances, dim, count, keys.data(), dim, false, unused);
  layer.positions =
      RelativePositions(keys.data(), change.data(), sizes_.heads, width, cached, sizes_.longest_frames);

  layer.expand = linear(weight, name + ".convolution.expand", 2 * dim, dim, precision);
  layer.convolution_out = linear(weight, name + ".convolution.out", dim, dim, precision);
  const float* taps = weight(name + ".convolution.depthwise.weight");
  layer.depthwise = Buffer<float>(kernel * dim);
  for (std::size_t i = 0; i < dim; ++i)
    for (std::size_t tap = 0; tap < kernel; ++tap)
      layer.depthwise.data()[tap * dim + i] = taps[i * kernel + tap];
  layer.depthwise_bias = copied(scaled(weight(name + ".convolution.depthwise.bias"), dim, 1.0f).data(), dim);
  return layer;
}

// The tails are those of the stem, then the newest kernel - 1 inputs of each layer's convolution.
void FastConformerEncoder::reset(Slot& slot) const {
  if (slot.rings.empty()) {
    slot.tails = Buffer<float>(stem_.tail_size() + sizes_.layers * (sizes_.conv_kernel - 1) * sizes_.dim);
    slot.rings.resize(layers_.size());
  }
  std::fill_n(slot.tails.data(), slot.tails.size(), 0.0f);
  for (std::size_t l = 0; l < layers_.size(); ++l) layers_[l].attention.reset(slot.rings[l]);
}

std::size_t FastConformerEncoder::left_padding(const Slot& slot) const {
  return slot.rings[0].frames == 0 ? subsampling() - 1 : 0;
}

std::size_t FastConformerEncoder::frames(const Slot& slot, std::size_t length) const {
  return length > left_padding(slot) ? (length + subsampling() - 1) / subsampling() : 0;
}

void FastConformerEncoder::check(std::size_t length, std::size_t advance) const {
  Encoder::check(length, advance);
  if (advance != length) throw std::invalid_argument("this encoder has no look-ahead");
  if (length > sizes_.longest_frames * subsampling())
    throw std::invalid_argument("a row is longer than the longest chunk");
}

void FastConformerEncoder::step_together(StreamChunk* chunks, std::size_t count, Scratch& s) const {
  const std::size_t dim = sizes_.dim;
  std::vector<std::size_t> frames_of;
  std::size_t rows = 0;
  for (std::size_t i = 0; i < count; ++i) {
    frames_of.push_back(frames(*chunks[i].slot, chunks[i].length));
    rows += frames_of[i];
  }
  if (rows == 0) return;
  float* features = s.hidden.at_least(rows * stem_.features());
  for (std::size_t i = 0, row = 0; i < count; row += frames_of[i++]) {
    const StreamChunk& chunk = chunks[i];
    stem_.extract(chunk.mel_TM, left_padding(*chunk.slot), chunk.length, frames_of[i],
                  chunk.slot->tails.data(), features + row * stem_.features(), s);
  }
  float* x = s.x.at_least(rows * dim);
  stem_.project(features, rows, x, s.input);

  float* normed = s.normed.at_least(rows * dim);
  float* qkv = s.projected.at_least(rows * 3 * dim);
  float* context = s.context.at_least(rows * dim);
  for (std::size_t l = 0; l < layers_.size(); ++l) {
    const Layer& layer = layers_[l];
    feed_forward(layer.first, x, rows, s);
    layer.attention_norm.apply(kernels_, x, rows, normed);
    layer.qkv.apply(kernels_, normed, dim, rows, qkv, 3 * dim, false, s.input);
    for (std::size_t i = 0, row = 0; i < count; row += frames_of[i++]) {
      layer.attention.attend(chunks[i].slot->rings[l], qkv + row * 3 * dim, frames_of[i], frames_of[i],
                             context + row * dim, &layer.positions, s.attention);
    }
    layer.attention_out.apply(kernels_, context, dim, rows, x, dim, true, s.input);
    convolve(layer, l, chunks, frames_of, x, rows, s);
    feed_forward(layer.second, x, rows, s);
    layer.out_norm.apply(kernels_, x, rows, x);
  }
  write_log_probs(chunks, frames_of, x, dim, s);
}

void FastConformerEncoder::feed_forward(const FeedForward& module, float* x, std::size_t rows,
                                        Scratch& s) const {
  const std::size_t dim = sizes_.dim, inner = dim * sizes_.feed_forward_factor;
  float* normed = s.normed.at_least(rows * dim);
  float* hidden = s.hidden.at_least(rows * inner);
  module.norm.apply(kernels_, x, rows, normed);
  module.in.apply(kernels_, normed, dim, rows, hidden, inner, false, s.input);
  kernels_.silu(hidden, rows * inner);
  module.out.apply(kernels_, hidden, inner, rows, x, dim, true, s.input);
}

void FastConformerEncoder::convolve(const Layer& layer, std::size_t l, const StreamChunk* chunks,
                                    const std::vector<std::size_t>& frames, float* x, std::size_t rows,
                                    Scratch& s) const {
  const std::size_t dim = sizes_.dim, kernel = sizes_.conv_kernel, tail_size = (kernel - 1) * dim;
  float* normed = s.normed.at_least(rows * dim);
  float* expanded = s.projected.at_least(rows * 2 * dim);
  layer.convolution_norm.apply(kernels_, x, rows, normed);
  layer.expand.apply(kernels_, normed, dim, rows, expanded, 2 * dim, false, s.input);
  std::vector<const float*> taps(kernel);
  for (std::size_t i = 0, row = 0; i < frames.size(); row += frames[i++]) {
    float* tail = chunks[i].slot->tails.data() + stem_.tail_size() + l * tail_size;
    float* input = s.middle.at_least(tail_size + frames[i] * dim);
    std::copy_n(tail, tail_size, input);
    kernels_.glu(expanded + row * 2 * dim, frames[i], dim, input + tail_size);
    for (std::size_t t = 0; t < frames[i]; ++t) {
      for (std::size_t tap = 0; tap < kernel; ++tap) taps[tap] = input + (t + tap) * dim;
      kernels_.depthwise(taps.data(), kernel, layer.depthwise.data(), layer.depthwise_bias.data(), dim,
                         normed + (row + t) * dim);
    }
    std::copy_n(input + frames[i] * dim, tail_size, tail);
  }
  layer.mixed_norm.apply(kernels_, normed, rows, normed);
  kernels_.silu(normed, rows * dim);
  layer.convolution_out.apply(kernels_, normed, dim, rows, x, dim, true, s.input);
}

}  // namespace streamasr::acoustic
