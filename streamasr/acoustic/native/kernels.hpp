// Declare the arithmetic that an encoder's step consists of, as a table of functions for each instruction
// set.
//
// Every sum of a row is added in one order that depends on neither the other rows nor their number: a
// stream's results are the same bits alone and in any batch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace streamasr::acoustic {

// Columns of a packed matrix lie in panels of this many.
inline constexpr std::size_t kPanel = 32;

inline std::size_t round_up(std::size_t value, std::size_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Where a product goes: c = product + bias, or c += product + bias.
struct Output {
  float* c;  // [m, n], `stride` floats between rows
  std::size_t stride;
  const float* bias;  // [n rounded up to kPanel], or null
  bool add;
};

// A packed float32 matrix [k, n]: panels of kPanel columns, each [k, kPanel].
struct PackedF32 {
  const float* data;
  std::size_t panel_stride;  // floats between panels, at least k * kPanel
};

struct Kernels {
  // c = a b, for a [m, k] with `a_stride` floats between rows.
  void (*gemm_f32)(const float* a, std::size_t a_stride, PackedF32 b, std::size_t m, std::size_t n,
                   std::size_t k, Output out);
  // The same with sums in float64: only 16 products at a time are added in float32.
  void (*gemm_wide)(const float* a, std::size_t a_stride, PackedF32 b, std::size_t m, std::size_t n,
                    std::size_t k, Output out);
  // The same, for bfloat16 in pairs: a [m, k rounded up to 2], b panels [k / 2, kPanel, 2]. Null if not
  // supported.
  void (*gemm_bf16)(const std::uint16_t* a, std::size_t a_stride, const std::uint16_t* b, std::size_t m,
                    std::size_t n, std::size_t k, Output out);
  // The same, for 8-bit integers in groups of four: a as to_int8 writes it, with a scale and a sum for each
  // row and `a_stride` bytes between rows; b panels [k / 4, kPanel, 4] of weights + 128, with a scale for
  // each column.
  void (*gemm_int8)(const std::int8_t* a, std::size_t a_stride, const float* a_scales,
                    const std::int32_t* a_sums, const std::uint8_t* b, const float* b_scales, std::size_t m,
                    std::size_t n, std::size_t k, Output out);
  void (*to_bf16)(const float* a, std::size_t a_stride, std::size_t m, std::size_t k, std::uint16_t* out);
  // Quantises each row by its largest magnitude, which becomes 127, to k rounded up to 4 signed integers.
  void (*to_int8)(const float* a, std::size_t a_stride, std::size_t m, std::size_t k, std::int8_t* out,
                  float* scales, std::int32_t* sums);
  // Bytes of each of these integers: 1, or 2 where gemm_int8 multiplies 16-bit integers.
  std::size_t int8_bytes;
  // Normalises rows [m, n] (Ba, Kiros and Hinton 2016).
  void (*layer_norm)(const float* x, std::size_t m, std::size_t n, const float* weight, const float* bias,
                     float* out);
  // Gaussian error linear unit of `count` values in place (Hendrycks and Gimpel 2016).
  void (*gelu)(float* x, std::size_t count);
  // x * sigmoid(x) in place (Elfwing, Uchibe and Doya 2018), and max(x, 0) in place.
  void (*silu)(float* x, std::size_t count);
  void (*relu)(float* x, std::size_t count);
  // Gated linear unit (Dauphin et al. 2017): the first half of rows [m, 2 n] times the sigmoid of the second.
  void (*glu)(const float* x, std::size_t m, std::size_t n, float* out);
  // out = bias + the sum of taps * weights, for `count` taps of n channels, null for zeros; weights [count,
  // n].
  void (*depthwise)(const float* const* taps, std::size_t count, const float* weights, const float* bias,
                    std::size_t n, float* out);
  // Replaces scores by exp(score - the row's maximum), over the first `first` of `x` and the first `second`
  // of `x + offset`, multiples of kPanel allowing; returns the sum.
  float (*softmax)(float* x, std::size_t first, std::size_t offset, std::size_t second);
};

enum class Instructions { kBaseline, kAvx2, kAvx512, kAmx };
inline constexpr Instructions kMostInstructions = Instructions::kAmx;

// The fastest instructions that both this processor and `limit` have.
Instructions best_instructions(Instructions limit);
// The table for them; with kAvx512 also the dot products of VNNI and BF16 where the processor has them, with
// kAmx tiles in their place.
const Kernels& kernels_for(Instructions instructions);
std::string describe(Instructions instructions);

}  // namespace streamasr::acoustic
