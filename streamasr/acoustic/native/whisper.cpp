#include "whisper.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <exception>
#include <thread>

namespace streamasr::acoustic {
namespace {

// Streams whose rows go through the layers together. More reuse a panel of weights more often while it is in
// the cache, fewer keep their own rows there.
constexpr std::size_t kStreamsTogether = 2;

Buffer<float> copied(const float* values, std::size_t count) {
  Buffer<float> copy(count);
  std::copy_n(values, count, copy.data());
  return copy;
}

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
    : sizes_(sizes),
      kernels_(kernels_for(instructions)),
      mel_tail_(sizes.stem_kernel - 1),
      stem_tail_(sizes.stem_kernel - sizes.stem_stride) {
  const std::size_t dim = sizes.dim, width = dim / sizes.heads;
  const auto linear = [&](const std::string& name, std::size_t n, std::size_t k, Precision precision) {
    return Linear(weight(name + ".weight"), weight(name + ".bias"), n, k, precision);
  };
  const auto vector = [&](const std::string& name) { return copied(weight(name), dim); };
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
  final_norm_ = vector("final_norm.weight");
  final_norm_bias_ = vector("final_norm.bias");
  positions_ = copied(positions, sizes.position_period_frames * dim);
  for (std::size_t i = 0; i < sizes.layers; ++i) {
    const std::string name = "blocks." + std::to_string(i);
    Layer& layer = layers_.emplace_back();
    layer.attention_norm = vector(name + ".attention_norm.weight");
    layer.attention_norm_bias = vector(name + ".attention_norm.bias");
    layer.mlp_norm = vector(name + ".mlp_norm.weight");
    layer.mlp_norm_bias = vector(name + ".mlp_norm.bias");
    // The queries' scale is part of their weights.
    std::vector<float> qkv(3 * dim * dim), bias(3 * dim);
    std::copy_n(weight(name + ".qkv.weight"), qkv.size(), qkv.data());
    std::copy_n(weight(name + ".qkv.bias"), bias.size(), bias.data());
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    for (std::size_t at = 0; at < dim * dim; ++at) qkv[at] *= scale;
    for (std::size_t at = 0; at < dim; ++at) bias[at] *= scale;
    layer.qkv = Linear(qkv.data(), bias.data(), 3 * dim, dim, i == 0 ? first : precision);
    layer.out = linear(name + ".out", dim, dim, i == 0 ? first : precision);
    layer.gemm = i == 0 && first == Precision::kWide ? kernels_.gemm_wide : kernels_.gemm_f32;
    layer.mlp_in = linear(name + ".mlp_in", 4 * dim, dim, precision);
    layer.mlp_out = linear(name + ".mlp_out", dim, 4 * dim, precision);
    layer.cached_frames = sizes.left_context_frames * (is_early(i) ? sizes.merge_frames : 1);
  }
}

void WhisperEncoder::reset(Slot& slot) const {
  if (slot.keys.empty()) {
    slot.tails = Buffer<float>(mel_tail_ * sizes_.n_mels + stem_tail_ * sizes_.dim);
    const std::size_t width = sizes_.dim / sizes_.heads;
    for (const Layer& layer : layers_) {
      const std::size_t lanes = round_up(layer.cached_frames, kPanel);
      slot.keys.emplace_back(sizes_.heads * lanes * width);
      slot.values.emplace_back(sizes_.heads * lanes * round_up(width, kPanel));
    }
  }
  std::fill_n(slot.tails.data(), slot.tails.size(), 0.0f);
  slot.stem_frames = slot.frames = slot.position = 0;
}

void WhisperEncoder::step(std::vector<StreamChunk>& chunks, std::size_t threads) const {
  threads = std::max<std::size_t>(1, std::min(threads, chunks.size()));
  const std::size_t together = std::min(kStreamsTogether, (chunks.size() + threads - 1) / threads);
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  const auto work = [&] {
    std::unique_ptr<Scratch> scratch;
    {
      const std::lock_guard lock(scratch_mutex_);
      if (!free_scratch_.empty()) {
        scratch = std::move(free_scratch_.back());
        free_scratch_.pop_back();
      }
    }
    try {
      if (!scratch) scratch = std::make_unique<Scratch>();
      for (std::size_t at; (at = next.fetch_add(together)) < chunks.size();) {
        step_together(chunks.data() + at, std::min(together, chunks.size() - at), *scratch);
      }
    } catch (...) {
      const std::lock_guard lock(scratch_mutex_);
      failure = std::current_exception();
    }
    const std::lock_guard lock(scratch_mutex_);
    if (scratch) free_scratch_.push_back(std::move(scratch));
  };
  {
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

void WhisperEncoder::step_together(StreamChunk* chunks, std::size_t count, Scratch& s) const {
  const std::size_t dim = sizes_.dim;
  const auto stem_frames = [&](const StreamChunk& chunk) { return chunk.length / sizes_.stem_stride; };
  const auto frames = [&](const StreamChunk& chunk) { return chunk.length / subsampling(); };
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
      float* merged = s.merged.at_least(rows / merge * dim + dim);
      std::size_t from = 0, to = 0;
      for (std::size_t i = 0; i < count; ++i) {
        merge_.apply(kernels_, x + from * dim, merge * dim, frames(chunks[i]), merged + to * dim, dim, false,
                     s.input);
        from += stem_frames(chunks[i]);
        to += frames(chunks[i]);
      }
      rows = to;
      std::copy_n(merged, rows * dim, x);
    }
    const Layer& layer = layers_[l];
    kernels_.layer_norm(x, rows, dim, layer.attention_norm.data(), layer.attention_norm_bias.data(), normed);
    layer.qkv.apply(kernels_, normed, dim, rows, qkv, 3 * dim, false, s.input);
    std::size_t row = 0;
    for (std::size_t i = 0; i < count; ++i) {
      attend(chunks[i], l, qkv + row * 3 * dim, context + row * dim, s);
      row += is_early(l) ? stem_frames(chunks[i]) : frames(chunks[i]);
    }
    layer.out.apply(kernels_, context, dim, rows, x, dim, true, s.input);
    kernels_.layer_norm(x, rows, dim, layer.mlp_norm.data(), layer.mlp_norm_bias.data(), normed);
    layer.mlp_in.apply(kernels_, normed, dim, rows, hidden, 4 * dim, false, s.input);
    kernels_.gelu(hidden, rows * 4 * dim);
    layer.mlp_out.apply(kernels_, hidden, 4 * dim, rows, x, dim, true, s.input);
  }
  kernels_.layer_norm(x, rows, dim, final_norm_.data(), final_norm_bias_.data(), normed);
  head_.apply(kernels_, normed, dim, rows, hidden, sizes_.vocab_size, false, s.input);
  for (std::size_t i = 0, row = 0; i < count; row += frames(chunks[i++])) {
    write_log_probs(hidden + row * sizes_.vocab_size, frames(chunks[i]), chunks[i].log_probs_TV);
    Slot& slot = *chunks[i].slot;
    const auto stem_advance = static_cast<std::int64_t>(chunks[i].advance / sizes_.stem_stride);
    slot.stem_frames += stem_advance;
    slot.frames += static_cast<std::int64_t>(chunks[i].advance / subsampling());
    slot.position = (slot.position + stem_advance) % static_cast<std::int64_t>(sizes_.position_period_frames);
  }
}

void WhisperEncoder::stem(StreamChunk& chunk, float* x, Scratch& s) const {
  const std::size_t dim = sizes_.dim, bands = sizes_.n_mels, length = chunk.length;
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

// Keys of a head lie in panels of kPanel frames, each [width, kPanel], and values in panels of kPanel
// columns, each [C rounded up, kPanel]: so both are packed matrices. Frame f is in lane f mod C; the first
// min(f, C) lanes are valid, and the order of keys means nothing to attention. The chunk's own keys and
// values are packed in the scratch memory, since look-ahead never enters the rings.
void WhisperEncoder::attend(const StreamChunk& chunk, std::size_t l, const float* qkv, float* context,
                            Scratch& s) const {
  const Layer& layer = layers_[l];
  Slot& slot = *chunk.slot;
  const std::size_t dim = sizes_.dim, width = dim / sizes_.heads, stride = 3 * dim;
  const std::size_t frame_mels = is_early(l) ? sizes_.stem_stride : subsampling();
  const std::size_t frames = chunk.length / frame_mels, kept = chunk.advance / frame_mels;
  if (frames == 0) return;
  const std::size_t cache = layer.cached_frames, lanes = round_up(cache, kPanel);
  const auto total = static_cast<std::size_t>(is_early(l) ? slot.stem_frames : slot.frames);
  const std::size_t cached = std::min(total, cache);
  const std::size_t fresh_lanes = round_up(frames, kPanel), value_panels = round_up(width, kPanel) / kPanel;
  const std::size_t score_stride = lanes + fresh_lanes;
  float* scores = s.scores.at_least(frames * score_stride);
  float* fresh_keys = s.new_keys.at_least(fresh_lanes * width);
  float* fresh_values = s.new_values.at_least(value_panels * frames * kPanel);
  for (std::size_t head = 0; head < sizes_.heads; ++head) {
    const float* q = qkv + head * width;
    const float *k = q + dim, *v = q + 2 * dim;
    float* keys = slot.keys[l].data() + head * lanes * width;
    float* values = slot.values[l].data() + head * value_panels * lanes * kPanel;
    const auto put = [&](std::size_t frame, float* key_panels, float* value_rows, std::size_t lane,
                         std::size_t rows) {
      float* key = key_panels + lane / kPanel * kPanel * width + lane % kPanel;
      const float *from = k + frame * stride, *value = v + frame * stride;
      for (std::size_t i = 0; i < width; ++i) key[i * kPanel] = from[i];
      for (std::size_t i = 0; i < width; i += kPanel) {
        std::copy_n(value + i, std::min(kPanel, width - i), value_rows + (i / kPanel * rows + lane) * kPanel);
      }
    };
    for (std::size_t frame = 0; frame < frames; ++frame) put(frame, fresh_keys, fresh_values, frame, frames);

    layer.gemm(q, stride, {keys, width * kPanel}, frames, round_up(cached, kPanel), width,
               {scores, score_stride, nullptr, false});
    layer.gemm(q, stride, {fresh_keys, width * kPanel}, frames, fresh_lanes, width,
               {scores + lanes, score_stride, nullptr, false});
    float* y = context + head * width;
    float sums[256];
    for (std::size_t first = 0; first < frames; first += std::size(sums)) {
      const std::size_t block = std::min(std::size(sums), frames - first);
      float* rows = scores + first * score_stride;
      float* out = y + first * dim;
      for (std::size_t i = 0; i < block; ++i) {
        sums[i] = kernels_.softmax(rows + i * score_stride, cached, lanes, frames);
      }
      layer.gemm(rows, score_stride, {values, lanes * kPanel}, block, width, cached,
                 {out, dim, nullptr, false});
      layer.gemm(rows + lanes, score_stride, {fresh_values, frames * kPanel}, block, width, frames,
                 {out, dim, nullptr, true});
      for (std::size_t i = 0; i < block; ++i) {
        const float scale = 1.0f / sums[i];
        for (std::size_t j = 0; j < width; ++j) out[i * dim + j] *= scale;
      }
    }
    for (std::size_t frame = 0; frame < kept; ++frame) {
      put(frame, keys, values, (total + frame) % cache, lanes);
    }
  }
}

void WhisperEncoder::write_log_probs(const float* logits, std::size_t frames, float* log_probs) const {
  const std::size_t tokens = sizes_.vocab_size;
  for (std::size_t t = 0; t < frames; ++t, logits += tokens, log_probs += tokens) {
    const float largest = *std::max_element(logits, logits + tokens);
    double sum = 0;
    for (std::size_t i = 0; i < tokens; ++i) sum += std::exp(logits[i] - largest);
    const auto log_sum = static_cast<float>(std::log(sum));
    for (std::size_t i = 0; i < tokens; ++i) log_probs[i] = logits[i] - largest - log_sum;
  }
}

}  // namespace streamasr::acoustic
