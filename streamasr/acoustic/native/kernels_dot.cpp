// Multiply matrices with the dot products of AVX-512: VNNI for 8-bit integers, BF16 for bfloat16.

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels_finish.hpp"

namespace streamasr::acoustic {
namespace {

constexpr std::size_t kRows = 8;

inline std::int32_t word(const void* x) {
  std::int32_t value;
  __builtin_memcpy(&value, x, sizeof value);
  return value;
}

template <std::size_t kM>
__attribute__((target("avx512f,avx512bf16"))) inline void tile_bf16(const std::uint16_t* a,
                                                                    std::size_t a_stride,
                                                                    const std::uint16_t* b, std::size_t pairs,
                                                                    std::size_t row, std::size_t column,
                                                                    std::size_t n, const Output& out) {
  __m512 sums[kM][kVectors];
  for (std::size_t i = 0; i < kM; ++i)
    for (std::size_t j = 0; j < kVectors; ++j) sums[i][j] = _mm512_setzero_ps();
  for (std::size_t at = 0; at < pairs; ++at) {
    __m512bh columns[kVectors];
#pragma GCC unroll 2
    for (std::size_t j = 0; j < kVectors; ++j) {
      columns[j] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(b + (at * kPanel + j * kWidth) * 2));
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kM; ++i) {
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(word(a + i * a_stride + 2 * at)));
#pragma GCC unroll 2
      for (std::size_t j = 0; j < kVectors; ++j) sums[i][j] = _mm512_dpbf16_ps(sums[i][j], columns[j], x);
    }
  }
  for (std::size_t i = 0; i < kM; ++i) finish(sums[i], row + i, column, n, out);
}

template <std::size_t kM>
__attribute__((target("avx512f,avx512vnni"))) inline void tile_int8(
    const std::int8_t* a, std::size_t a_stride, const float* a_scales, const std::int32_t* a_sums,
    const std::uint8_t* b, const float* b_scales, std::size_t groups, std::size_t row, std::size_t column,
    std::size_t n, const Output& out) {
  __m512i sums[kM][kVectors];
  for (std::size_t i = 0; i < kM; ++i)
    for (std::size_t j = 0; j < kVectors; ++j) sums[i][j] = _mm512_setzero_si512();
  for (std::size_t at = 0; at < groups; ++at) {
    __m512i columns[kVectors];
#pragma GCC unroll 2
    for (std::size_t j = 0; j < kVectors; ++j) {
      columns[j] = _mm512_loadu_si512(b + (at * kPanel + j * kWidth) * 4);
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kM; ++i) {
      const __m512i x = _mm512_set1_epi32(word(a + i * a_stride + 4 * at));
#pragma GCC unroll 2
      for (std::size_t j = 0; j < kVectors; ++j) sums[i][j] = _mm512_dpbusd_epi32(sums[i][j], columns[j], x);
    }
  }
  for (std::size_t i = 0; i < kM; ++i)
    finish_int8(sums[i], a_scales[i], a_sums[i], b_scales, row + i, column, n, out);
}

template <class Tile>
inline void for_row_blocks(std::size_t m, Tile tile) {
  std::size_t row = 0;
  for (; row + kRows <= m; row += kRows) tile.template operator()<kRows>(row);
  for (; row + 4 <= m; row += 4) tile.template operator()<4>(row);
  for (; row + 2 <= m; row += 2) tile.template operator()<2>(row);
  for (; row < m; ++row) tile.template operator()<1>(row);
}

}  // namespace

void gemm_bf16_dot(const std::uint16_t* a, std::size_t a_stride, const std::uint16_t* b, std::size_t m,
                   std::size_t n, std::size_t k, Output out) {
  const std::size_t pairs = (k + 1) / 2;
  for (std::size_t column = 0; column < n; column += kPanel) {
    for_row_blocks(m, [&]<std::size_t kM>(std::size_t row) {
      tile_bf16<kM>(a + row * a_stride, a_stride, b + column * pairs * 2, pairs, row, column, n, out);
    });
  }
}

void gemm_int8_dot(const std::int8_t* a, std::size_t a_stride, const float* a_scales,
                   const std::int32_t* a_sums, const std::uint8_t* b, const float* b_scales, std::size_t m,
                   std::size_t n, std::size_t k, Output out) {
  const std::size_t groups = (k + 3) / 4;
  for (std::size_t column = 0; column < n; column += kPanel) {
    for_row_blocks(m, [&]<std::size_t kM>(std::size_t row) {
      tile_int8<kM>(a + row * a_stride, a_stride, a_scales + row, a_sums + row, b + column * groups * 4,
                    b_scales, groups, row, column, n, out);
    });
  }
}

}  // namespace streamasr::acoustic
#endif
