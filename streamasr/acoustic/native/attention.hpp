// Attend to cached frames in ring buffers, in the layout of the products that read them: a step copies none.
#pragma once

#include "slot.hpp"

namespace streamasr::acoustic {

struct AttentionScratch {
  Buffer<float> scores, new_keys, new_values, position_queries, position_scores;
};

// The positional part of the scores (Dai et al. 2019, section 3.3): products of queries with keys of the
// distances `cached + longest - 1`, one less … `1 - longest`, query minus key.
class RelativePositions {
 public:
  RelativePositions() = default;
  // `keys` is [cached + 2 longest - 1, heads * width]; `query_bias` [heads * width] is added to the queries.
  RelativePositions(const float* keys, const float* query_bias, std::size_t heads, std::size_t width,
                    std::size_t cached, std::size_t longest);

  // Adds the part of one head to scores [frames, …] of keys in a ring of `cached` lanes, `valid` of which are
  // filled and the oldest of which is in lane `oldest`, and of the new keys, which begin at lane
  // `fresh_lane`.
  void add(const Kernels& kernels, const float* q, std::size_t q_stride, std::size_t head, std::size_t frames,
           std::size_t valid, std::size_t oldest, float* scores, std::size_t score_stride,
           std::size_t fresh_lane, AttentionScratch& scratch) const;

 private:
  std::size_t width_ = 0, longest_ = 0, cached_ = 0, columns_ = 0;
  Buffer<float> keys_;  // for each head a packed matrix [width, columns_]
  Buffer<float> query_bias_;
};

// Attention of one layer to the newest `cached` frames before a step, and to the step's own.
//
// Keys of a head lie in panels of kPanel frames, each [width, kPanel], and values in panels of kPanel
// columns, each [lanes, kPanel], where the lanes are `cached` rounded up: so both are packed matrices.
// Frame f is in lane f mod `cached`.
class RingAttention {
 public:
  using Gemm = decltype(Kernels::gemm_f32);

  RingAttention() = default;
  RingAttention(const Kernels& kernels, Gemm gemm, std::size_t heads, std::size_t width, std::size_t cached);

  // Begins a new stream. The ring's memory is allocated when this is first called.
  void reset(Ring& ring) const;

  // Writes the context [frames, heads * width] of queries in rows of `qkv`, [frames, 3 * heads * width],
  // whose scale is part of them; then caches the first `kept` frames. The others are look-ahead: their keys
  // and values never enter the ring. `positions` may be null.
  void attend(Ring& ring, const float* qkv, std::size_t frames, std::size_t kept, float* context,
              const RelativePositions* positions, AttentionScratch& scratch) const;

 private:
  const Kernels* kernels_ = nullptr;
  Gemm gemm_ = nullptr;
  std::size_t heads_ = 0, width_ = 0, cached_ = 0, lanes_ = 0, value_panels_ = 0;
};

}  // namespace streamasr::acoustic
