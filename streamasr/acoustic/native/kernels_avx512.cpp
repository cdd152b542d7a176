// Compile the kernels for AVX-512.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels.hpp"

#if defined(__x86_64__)
// After the standard headers, whose functions other files share.
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")

namespace streamasr::acoustic {
namespace {
constexpr std::size_t kWidth = 16;              // floats of a vector
constexpr std::size_t kRows = 8, kVectors = 2;  // a tile of a product, in registers
}  // namespace
}  // namespace streamasr::acoustic

#include "kernels_body.hpp"

namespace streamasr::acoustic {
const Kernels& avx512_kernels() { return kKernels; }
}  // namespace streamasr::acoustic
#endif
