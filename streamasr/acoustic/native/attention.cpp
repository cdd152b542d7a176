#include "attention.hpp"

#include <algorithm>
#include <iterator>

namespace streamasr::acoustic {

RelativePositions::RelativePositions(const float* keys, const float* query_bias, std::size_t heads,
                                     std::size_t width, std::size_t cached, std::size_t longest)
    : width_(width),
      longest_(longest),
      cached_(cached),
      columns_(round_up(cached + 2 * longest - 1, kPanel)),
      keys_(heads * width * columns_),
      query_bias_(copied(query_bias, heads * width)) {
  for (std::size_t n = 0; n < cached + 2 * longest - 1; ++n) {
    for (std::size_t i = 0; i < heads * width; ++i) {
      float* head = keys_.data() + i / width * width * columns_;
      head[(n / kPanel * width + i % width) * kPanel + n % kPanel] = keys[n * heads * width + i];
    }
  }
}

void RelativePositions::add(const Kernels& kernels, const float* q, std::size_t q_stride, std::size_t head,
                            std::size_t frames, std::size_t valid, std::size_t oldest, float* scores,
                            std::size_t score_stride, std::size_t fresh_lane,
                            AttentionScratch& scratch) const {
  float* queries = scratch.position_queries.at_least(frames * width_);
  const float* bias = query_bias_.data() + head * width_;
  for (std::size_t t = 0; t < frames; ++t)
    for (std::size_t i = 0; i < width_; ++i) queries[t * width_ + i] = q[t * q_stride + i] + bias[i];
  // Column n has distance zero - n. A short step needs neither the first columns nor the last ones.
  const std::size_t zero = cached_ + longest_ - 1;
  const std::size_t first = (longest_ - frames) / kPanel * kPanel, end = round_up(zero + frames, kPanel);
  float* products = scratch.position_scores.at_least(frames * columns_);
  kernels.gemm_f32(queries, width_, {keys_.data() + (head * columns_ + first) * width_, width_ * kPanel},
                   frames, end - first, width_, {products + first, columns_, nullptr, false});
  for (std::size_t t = 0; t < frames; ++t) {
    float* row = scores + t * score_stride;
    // Of the first new frame; a query has distance t + age to a cached one, where the newest has age 1.
    const float* fresh = products + t * columns_ + zero - t;
    const auto add_to = [](float* to, const float* from, std::size_t count) {
      for (std::size_t i = 0; i < count; ++i) to[i] += from[i];
    };
    add_to(row + oldest, fresh - valid, valid - oldest);
    add_to(row, fresh - oldest, oldest);
    add_to(row + fresh_lane, fresh, frames);
  }
}

RingAttention::RingAttention(const Kernels& kernels, Gemm gemm, std::size_t heads, std::size_t width,
                             std::size_t cached)
    : kernels_(&kernels),
      gemm_(gemm),
      heads_(heads),
      width_(width),
      cached_(cached),
      lanes_(round_up(cached, kPanel)),
      value_panels_(round_up(width, kPanel) / kPanel) {}

void RingAttention::reset(Ring& ring) const {
  if (ring.keys.size() == 0) {
    ring.keys = Buffer<float>(heads_ * lanes_ * width_);
    ring.values = Buffer<float>(heads_ * value_panels_ * lanes_ * kPanel);
  }
  ring.frames = 0;
}

void RingAttention::attend(Ring& ring, const float* qkv, std::size_t frames, std::size_t kept, float* context,
                           const RelativePositions* positions, AttentionScratch& s) const {
  if (frames == 0) return;
  const std::size_t dim = heads_ * width_, stride = 3 * dim;
  const auto total = static_cast<std::size_t>(ring.frames);
  const std::size_t valid = std::min(total, cached_), oldest = valid < cached_ ? 0 : total % cached_;
  const std::size_t fresh_lanes = round_up(frames, kPanel), score_stride = lanes_ + fresh_lanes;
  float* scores = s.scores.at_least(frames * score_stride);
  float* fresh_keys = s.new_keys.at_least(fresh_lanes * width_);
  float* fresh_values = s.new_values.at_least(value_panels_ * frames * kPanel);
  for (std::size_t head = 0; head < heads_; ++head) {
    const float* q = qkv + head * width_;
    const float *k = q + dim, *v = q + 2 * dim;
    float* keys = ring.keys.data() + head * lanes_ * width_;
    float* values = ring.values.data() + head * value_panels_ * lanes_ * kPanel;
    const auto put = [&](std::size_t frame, float* key_panels, float* value_rows, std::size_t lane,
                         std::size_t rows) {
      float* key = key_panels + lane / kPanel * kPanel * width_ + lane % kPanel;
      const float *from = k + frame * stride, *value = v + frame * stride;
      for (std::size_t i = 0; i < width_; ++i) key[i * kPanel] = from[i];
      for (std::size_t i = 0; i < width_; i += kPanel) {
        std::copy_n(value + i, std::min(kPanel, width_ - i),
                    value_rows + (i / kPanel * rows + lane) * kPanel);
      }
    };
    for (std::size_t frame = 0; frame < frames; ++frame) put(frame, fresh_keys, fresh_values, frame, frames);

    gemm_(q, stride, {keys, width_ * kPanel}, frames, round_up(valid, kPanel), width_,
          {scores, score_stride, nullptr, false});
    gemm_(q, stride, {fresh_keys, width_ * kPanel}, frames, fresh_lanes, width_,
          {scores + lanes_, score_stride, nullptr, false});
    if (positions)
      positions->add(*kernels_, q, stride, head, frames, valid, oldest, scores, score_stride, lanes_, s);
    float* y = context + head * width_;
    float sums[256];
    for (std::size_t first = 0; first < frames; first += std::size(sums)) {
      const std::size_t block = std::min(std::size(sums), frames - first);
      float* rows = scores + first * score_stride;
      float* out = y + first * dim;
      for (std::size_t i = 0; i < block; ++i) {
        sums[i] = kernels_->softmax(rows + i * score_stride, valid, lanes_, frames);
      }
      gemm_(rows, score_stride, {values, lanes_ * kPanel}, block, width_, valid, {out, dim, nullptr, false});
      gemm_(rows + lanes_, score_stride, {fresh_values, frames * kPanel}, block, width_, frames,
            {out, dim, nullptr, true});
      for (std::size_t i = 0; i < block; ++i) {
        const float scale = 1.0f / sums[i];
        for (std::size_t j = 0; j < width_; ++j) out[i * dim + j] *= scale;
      }
    }
    for (std::size_t frame = 0; frame < kept; ++frame) {
      put(frame, keys, values, (total + frame) % cached_, lanes_);
    }
  }
  ring.frames += static_cast<std::int64_t>(kept);
}

}  // namespace streamasr::acoustic
