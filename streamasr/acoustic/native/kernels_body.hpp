// Implement the kernels once, for vectors of kWidth floats. Included by a file for each instruction set,
// after its `#pragma GCC target`: nothing here may be shared between those files, so all of it has internal
// linkage.

#include "kernels_functions.hpp"

namespace streamasr::acoustic {
namespace {

constexpr std::size_t kColumns = kVectors * kWidth;
static_assert(kPanel % kColumns == 0);

inline void finish(const Floats* sums, std::size_t row, std::size_t column, std::size_t n,
                   const Output& out) {
  float* c = out.c + row * out.stride + column;
  if (column + kColumns <= n) {
    for (std::size_t j = 0; j < kVectors; ++j) {
      Floats value = sums[j];
      if (out.bias) value += load(out.bias + column + j * kWidth);
      if (out.add) value += load(c + j * kWidth);
      store(c + j * kWidth, value);
    }
    return;
  }
  float values[kColumns];
  for (std::size_t j = 0; j < kVectors; ++j) store(values + j * kWidth, sums[j]);
  for (std::size_t j = 0; column + j < n && j < kColumns; ++j) {
    const float value = values[j] + (out.bias ? out.bias[column + j] : 0.0f);
    c[j] = out.add ? c[j] + value : value;
  }
}

template <std::size_t kM>
inline void add_products(const float* a, std::size_t a_stride, const float* b, std::size_t begin,
                         std::size_t end, Floats (&sums)[kM][kVectors]) {
  for (std::size_t at = begin; at < end; ++at) {
    Floats columns[kVectors];
#pragma GCC unroll 8
    for (std::size_t j = 0; j < kVectors; ++j) columns[j] = load(b + at * kPanel + j * kWidth);
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kM; ++i) {
      const Floats x = splat(a[i * a_stride + at]);
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kVectors; ++j) sums[i][j] += x * columns[j];
    }
  }
}

// Adds blocks of products to totals, so that rounding errors grow with the blocks' length and number, not
// with k.
template <std::size_t kM, std::size_t kBlock, class Total>
inline void tile_f32(const float* a, std::size_t a_stride, const float* b, std::size_t k, std::size_t row,
                     std::size_t column, std::size_t n, const Output& out) {
  Total totals[kM][kVectors] = {};
  for (std::size_t at = 0; at < k; at += kBlock) {
    Floats sums[kM][kVectors] = {};
    add_products<kM>(a, a_stride, b, at, at + kBlock < k ? at + kBlock : k, sums);
    // Without unrolling, the compiler keeps the sums in memory, also while it multiplies.
#pragma GCC unroll 16
    for (std::size_t i = 0; i < kM; ++i)
#pragma GCC unroll 8
      for (std::size_t j = 0; j < kVectors; ++j) add_to(totals[i][j], sums[i][j]);
  }
  for (std::size_t i = 0; i < kM; ++i) {
    Floats sums[kVectors];
    for (std::size_t j = 0; j < kVectors; ++j) sums[j] = rounded(totals[i][j]);
    finish(sums, row + i, column, n, out);
  }
}

// Calls `tile` with the number of rows as a constant, for rows in blocks of kRows and then of smaller powers
// of 2.
template <class Tile>
inline void for_row_blocks(std::size_t m, Tile tile) {
  std::size_t row = 0;
  for (; row + kRows <= m; row += kRows) tile.template operator()<kRows>(row);
  if constexpr (kRows > 4)
    for (; row + 4 <= m; row += 4) tile.template operator()<4>(row);
  for (; row + 2 <= m; row += 2) tile.template operator()<2>(row);
  for (; row < m; ++row) tile.template operator()<1>(row);
}

template <std::size_t kBlock, class Total>
void gemm(const float* a, std::size_t a_stride, PackedF32 b, std::size_t m, std::size_t n, std::size_t k,
          Output out) {
  for (std::size_t column = 0; column < n; column += kColumns) {
    const float* panel = b.data + column / kPanel * b.panel_stride + column % kPanel;
    for_row_blocks(m, [&]<std::size_t kM>(std::size_t row) {
      tile_f32<kM, kBlock, Total>(a + row * a_stride, a_stride, panel, k, row, column, n, out);
    });
  }
}

void gemm_int8(const std::int8_t* a, std::size_t a_stride, const float* a_scales, const std::int32_t* a_sums,
               const std::uint8_t* b, const float* b_scales, std::size_t m, std::size_t n, std::size_t k,
               Output out) {
  const std::size_t groups = (k + 3) / 4;
  for (std::size_t panel = 0; panel < n; panel += kPanel) {
    const std::uint8_t* weights = b + panel * groups * 4;
    for (std::size_t row = 0; row < m; ++row) {
      std::int32_t sums[kPanel] = {};
      for (std::size_t g = 0; g < groups; ++g) {
        const std::int8_t* x = a + row * a_stride + g * 4;
        const std::uint8_t* w = weights + g * 4 * kPanel;
        for (std::size_t j = 0; j < kPanel; ++j) {
          sums[j] += x[0] * w[4 * j] + x[1] * w[4 * j + 1] + x[2] * w[4 * j + 2] + x[3] * w[4 * j + 3];
        }
      }
      float products[kPanel];
      for (std::size_t j = 0; j < kPanel; ++j) {
        products[j] = static_cast<float>(sums[j] - 128 * a_sums[row]) * (a_scales[row] * b_scales[panel + j]);
      }
      for (std::size_t column = 0; column < kPanel && panel + column < n; column += kColumns) {
        Floats vectors[kVectors];
        for (std::size_t j = 0; j < kVectors; ++j) vectors[j] = load(products + column + j * kWidth);
        finish(vectors, row, panel + column, n, out);
      }
    }
  }
}

void to_bf16(const float* a, std::size_t a_stride, std::size_t m, std::size_t k, std::uint16_t* out) {
  const std::size_t padded = round_up(k, 2);
  for (std::size_t row = 0; row < m; ++row) {
    const float* x = a + row * a_stride;
    std::uint16_t* y = out + row * padded;
    for (std::size_t i = 0; i < k; ++i) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(x[i]);
      y[i] = static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
    if (padded > k) y[k] = 0;
  }
}

void to_int8(const float* a, std::size_t a_stride, std::size_t m, std::size_t k, std::int8_t* out,
             float* scales, std::int32_t* sums) {
  const std::size_t padded = round_up(k, 4);
  for (std::size_t row = 0; row < m; ++row) {
    const float* x = a + row * a_stride;
    std::int8_t* y = out + row * padded;
    Floats largest = {};
    std::size_t i = 0;
    for (; i + kWidth <= k; i += kWidth) {
      const Floats value = load(x + i);
      const Floats magnitude = value < 0 ? -value : value;
      largest = magnitude > largest ? magnitude : largest;
    }
    float most = 0;
    for (std::size_t j = 0; j < kWidth; ++j) most = largest[j] > most ? largest[j] : most;
    for (; i < k; ++i) {
      const float magnitude = x[i] < 0 ? -x[i] : x[i];
      most = magnitude > most ? magnitude : most;
    }
    const float factor = most > 0 ? 127.0f / most : 0.0f;
    // Adding 1.5 * 2^23 rounds to the nearest integer, which is then in the lowest bits.
    constexpr float kRounder = 12582912.0f;
    std::int32_t sum = 0;
    for (i = 0; i < k; ++i) {
      const std::int32_t value =
          std::bit_cast<std::int32_t>(x[i] * factor + kRounder) - std::bit_cast<std::int32_t>(kRounder);
      y[i] = static_cast<std::int8_t>(value);
      sum += value;
    }
    for (i = k; i < padded; ++i) y[i] = 0;
    scales[row] = most / 127.0f;
    sums[row] = sum;
  }
}

constexpr Kernels kKernels = {gemm<32, Floats>,
                              gemm<16, Doubles>,
                              nullptr,
                              gemm_int8,
                              to_bf16,
                              to_int8,
                              1,
                              layer_norm,
                              gelu,
                              silu,
                              relu,
                              glu,
                              depthwise,
                              softmax};

}  // namespace
}  // namespace streamasr::acoustic
