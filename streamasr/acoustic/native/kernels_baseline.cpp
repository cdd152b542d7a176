// Compile the kernels for any processor of the architecture.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels.hpp"

namespace streamasr::acoustic {
namespace {
constexpr std::size_t kWidth = 4;               // floats of a vector
constexpr std::size_t kRows = 4, kVectors = 2;  // a tile of a product, in registers
}  // namespace
}  // namespace streamasr::acoustic

#include "kernels_body.hpp"

namespace streamasr::acoustic {
const Kernels& baseline_kernels() { return kKernels; }
}  // namespace streamasr::acoustic
