// Compile the kernels for AVX2 and FMA.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

// After the standard headers, whose functions other files share.
#pragma GCC target("avx2,fma")

namespace streamasr::acoustic {
namespace {
constexpr std::size_t kWidth = 8;               // floats of a vector
constexpr std::size_t kRows = 6, kVectors = 2;  // a tile of a product, in registers
}  // namespace
}  // namespace streamasr::acoustic

#include "kernels_body.hpp"

namespace streamasr::acoustic {
namespace {

// AVX2's product of 8-bit integers saturates. That of 16-bit integers adds pairs of products in 32 bits,
// which is exact. So a group of four inputs a b c d lies as a c b d, with 16 bits each, and a group of
// weights is split into the same pairs.
void to_pairs(const float* a, std::size_t a_stride, std::size_t m, std::size_t k, std::int8_t* out,
              float* scales, std::int32_t* sums) {
  const std::size_t padded = round_up(k, 4);
  for (std::size_t row = 0; row < m; ++row) {
    std::int8_t* bytes = out + row * 2 * padded;
    to_int8(a + row * a_stride, a_stride, 1, k, bytes, scales + row, sums + row);
    // Backwards, because a group takes the place of two.
    for (std::size_t at = padded; at > 0; at -= 4) {
      const std::int8_t* x = bytes + at - 4;
      const std::int16_t pairs[4] = {x[0], x[2], x[1], x[3]};
      __builtin_memcpy(bytes + 2 * (at - 4), pairs, sizeof pairs);
    }
  }
}

inline __m256i splat_pair(const std::int8_t* x) {
  std::int32_t pair;
  __builtin_memcpy(&pair, x, sizeof pair);
  return _mm256_set1_epi32(pair);
}

template <std::size_t kM>
inline void tile_pairs(const std::int8_t* a, std::size_t a_stride, const float* a_scales,
                       const std::int32_t* a_sums, const std::uint8_t* b, const float* b_scales,
                       std::size_t groups, std::size_t row, std::size_t column, std::size_t n,
                       const Output& out) {
  const __m256i low_bytes = _mm256_set1_epi16(0xff);
  __m256i sums[kM][kVectors];
  for (std::size_t i = 0; i < kM; ++i)
    for (std::size_t j = 0; j < kVectors; ++j) sums[i][j] = _mm256_setzero_si256();
  for (std::size_t at = 0; at < groups; ++at) {
    __m256i first[kVectors], second[kVectors];
#pragma GCC unroll 2
    for (std::size_t j = 0; j < kVectors; ++j) {
      const auto* weights = reinterpret_cast<const __m256i*>(b + (at * kPanel + j * kWidth) * 4);
      const __m256i columns = _mm256_loadu_si256(weights);
      first[j] = _mm256_and_si256(columns, low_bytes);
      second[j] = _mm256_srli_epi16(columns, 8);
    }
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kM; ++i) {
      const std::int8_t* group = a + i * a_stride + at * 8;
      const __m256i x = splat_pair(group), y = splat_pair(group + 4);
#pragma GCC unroll 2
      for (std::size_t j = 0; j < kVectors; ++j) {
        sums[i][j] = _mm256_add_epi32(sums[i][j], _mm256_madd_epi16(first[j], x));
        sums[i][j] = _mm256_add_epi32(sums[i][j], _mm256_madd_epi16(second[j], y));
      }
    }
  }
  for (std::size_t i = 0; i < kM; ++i) {
    const __m256i shift = _mm256_set1_epi32(128 * a_sums[i]);
    Floats products[kVectors];
    for (std::size_t j = 0; j < kVectors; ++j) {
      const auto sum = reinterpret_cast<Ints>(_mm256_sub_epi32(sums[i][j], shift));
      products[j] = __builtin_convertvector(sum, Floats) * (a_scales[i] * load(b_scales + j * kWidth));
    }
    finish(products, row + i, column, n, out);
  }
}

void gemm_pairs(const std::int8_t* a, std::size_t a_stride, const float* a_scales, const std::int32_t* a_sums,
                const std::uint8_t* b, const float* b_scales, std::size_t m, std::size_t n, std::size_t k,
                Output out) {
  const std::size_t groups = (k + 3) / 4;
  for (std::size_t column = 0; column < n; column += kColumns) {
    const std::uint8_t* panel = b + (column / kPanel * kPanel * groups + column % kPanel) * 4;
    for_row_blocks(m, [&]<std::size_t kM>(std::size_t row) {
      tile_pairs<kM>(a + row * a_stride, a_stride, a_scales + row, a_sums + row, panel, b_scales + column,
                     groups, row, column, n, out);
    });
  }
}

constexpr Kernels with_pairs() {
  Kernels kernels = kKernels;
  kernels.gemm_int8 = gemm_pairs;
  kernels.to_int8 = to_pairs;
  kernels.int8_bytes = 2;
  return kernels;
}

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kernels = with_pairs();
  return kernels;
}
}  // namespace streamasr::acoustic
#endif
