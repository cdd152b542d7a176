// Write rows of products with AVX-512, for kernels that differ in how they multiply.
#pragma once

#include <immintrin.h>

#include "kernels.hpp"

namespace streamasr::acoustic {
namespace {

constexpr std::size_t kWidth = 16, kVectors = 2;
static_assert(kPanel == kVectors * kWidth);

__attribute__((target("avx512f"))) inline void finish(const __m512* sums, std::size_t row, std::size_t column,
                                                      std::size_t n, const Output& out) {
  float* c = out.c + row * out.stride + column;
  for (std::size_t j = 0; j < kVectors; ++j) {
    const std::size_t first = column + j * kWidth;
    if (first >= n) return;
    const std::size_t count = n - first < kWidth ? n - first : kWidth;
    const auto mask = static_cast<__mmask16>((1u << count) - 1);
    __m512 value = sums[j];
    if (out.bias) value = _mm512_add_ps(value, _mm512_loadu_ps(out.bias + first));
    if (out.add) value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, c + j * kWidth));
    _mm512_mask_storeu_ps(c + j * kWidth, mask, value);
  }
}

// Writes a row of a product of integers, of which `sums` are the products with weights + 128.
__attribute__((target("avx512f"))) inline void finish_int8(const __m512i* sums, float a_scale,
                                                           std::int32_t a_sum, const float* b_scales,
                                                           std::size_t row, std::size_t column, std::size_t n,
                                                           const Output& out) {
  const __m512i shift = _mm512_set1_epi32(128 * a_sum);
  __m512 products[kVectors];
  for (std::size_t j = 0; j < kVectors; ++j) {
    const __m512 scale =
        _mm512_mul_ps(_mm512_set1_ps(a_scale), _mm512_loadu_ps(b_scales + column + j * kWidth));
    products[j] = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums[j], shift)), scale);
  }
  finish(products, row, column, n, out);
}

}  // namespace
}  // namespace streamasr::acoustic
