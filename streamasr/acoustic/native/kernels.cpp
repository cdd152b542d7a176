// Select the kernels for the processor that the program runs on.

#include "kernels.hpp"

#include <algorithm>

#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace streamasr::acoustic {

const Kernels& baseline_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
void gemm_bf16_dot(const std::uint16_t*, std::size_t, const std::uint16_t*, std::size_t, std::size_t,
                   std::size_t, Output);
void gemm_int8_dot(const std::int8_t*, std::size_t, const float*, const std::int32_t*, const std::uint8_t*,
                   const float*, std::size_t, std::size_t, std::size_t, Output);
void gemm_bf16_amx(const std::uint16_t*, std::size_t, const std::uint16_t*, std::size_t, std::size_t,
                   std::size_t, Output);
void gemm_int8_amx(const std::int8_t*, std::size_t, const float*, const std::int32_t*, const std::uint8_t*,
                   const float*, std::size_t, std::size_t, std::size_t, Output);

namespace {

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

// Whether the processor has AMX, and Linux lets this process use its tiles, for which a process must ask.
bool has_amx() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  static const bool has = has_avx512() && __builtin_cpu_supports("avx512vnni") &&
                          __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-int8") &&
                          __builtin_cpu_supports("amx-bf16") &&
                          syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return has;
#else
  return false;
#endif
}

Kernels with_tiles() {
  Kernels kernels = avx512_kernels();
  kernels.gemm_int8 = gemm_int8_amx;
  kernels.gemm_bf16 = gemm_bf16_amx;
  return kernels;
}

Kernels with_dot_products() {
  Kernels kernels = avx512_kernels();
  if (__builtin_cpu_supports("avx512vnni")) {
    kernels.gemm_int8 = gemm_int8_dot;
  } else {
    kernels.gemm_int8 = avx2_kernels().gemm_int8;
    kernels.to_int8 = avx2_kernels().to_int8;
    kernels.int8_bytes = avx2_kernels().int8_bytes;
  }
  if (__builtin_cpu_supports("avx512bf16")) kernels.gemm_bf16 = gemm_bf16_dot;
  return kernels;
}

}  // namespace

Instructions best_instructions(Instructions limit) {
  if (limit >= Instructions::kAmx && has_amx()) return Instructions::kAmx;
  if (limit >= Instructions::kAvx512 && has_avx512()) return Instructions::kAvx512;
  if (limit >= Instructions::kAvx2 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return Instructions::kAvx2;
  }
  return Instructions::kBaseline;
}

const Kernels& kernels_for(Instructions instructions) {
  static const Kernels avx512 = has_avx512() ? with_dot_products() : baseline_kernels();
  static const Kernels amx = has_amx() ? with_tiles() : baseline_kernels();
  switch (std::min(instructions, best_instructions(kMostInstructions))) {
    case Instructions::kAmx:
      return amx;
    case Instructions::kAvx512:
      return avx512;
    case Instructions::kAvx2:
      return avx2_kernels();
    default:
      return baseline_kernels();
  }
}

std::string describe(Instructions instructions) {
  switch (instructions) {
    case Instructions::kAmx:
      return describe(Instructions::kAvx512) + ", AMX";
    case Instructions::kAvx512: {
      std::string name = "AVX-512";
      if (__builtin_cpu_supports("avx512vnni")) name += ", VNNI";
      if (__builtin_cpu_supports("avx512bf16")) name += ", BF16";
      return name;
    }
    case Instructions::kAvx2:
      return "AVX2";
    default:
      return "SSE2";
  }
}
#else
Instructions best_instructions(Instructions) { return Instructions::kBaseline; }
const Kernels& kernels_for(Instructions) { return baseline_kernels(); }
std::string describe(Instructions) { return "baseline"; }
#endif

}  // namespace streamasr::acoustic
