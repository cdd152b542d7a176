// Multiply matrices with the tiles of AMX, whose sums are added in one order for every row. A product whose
// rows are no whole number of tiles is left to the dot products of AVX-512.

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels_finish.hpp"

// After the standard headers, whose functions other files share.
#pragma GCC target("avx512f,amx-tile,amx-int8,amx-bf16")

namespace streamasr::acoustic {

void gemm_bf16_dot(const std::uint16_t*, std::size_t, const std::uint16_t*, std::size_t, std::size_t,
                   std::size_t, Output);
void gemm_int8_dot(const std::int8_t*, std::size_t, const float*, const std::int32_t*, const std::uint8_t*,
                   const float*, std::size_t, std::size_t, std::size_t, Output);

namespace {

// 16 rows of 64 bytes. Tiles 0 to 3 are sums, of two blocks of rows and both halves of a panel;
// 4 and 5 are rows of a, 6 and 7 the halves of b.
constexpr std::size_t kTileRows = 16, kTileBytes = 64, kPanelBytes = 2 * kTileBytes;
static_assert(kPanel == 2 * kTileRows);

struct alignas(64) TileConfig {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes[16] = {};
  std::uint8_t rows[16] = {};

  // The second block may have no rows.
  TileConfig(std::size_t first, std::size_t second) {
    const std::size_t blocks[] = {first, first, second, second, first, second, kTileRows, kTileRows};
    for (std::size_t tile = 0; tile < 8; ++tile) {
      rows[tile] = static_cast<std::uint8_t>(blocks[tile]);
      bytes[tile] = blocks[tile] ? kTileBytes : 0;
    }
  }
};

struct Bfloat16Tiles {
  static void multiply_first() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
  }
  static void multiply_second() {
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
};

struct Int8Tiles {
  static void multiply_first() {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
  }
  static void multiply_second() {
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
};

// The products of up to 32 rows of a, `steps` times 64 bytes each, and a panel of b. `sums` is [32, kPanel].
template <class Tiles, bool kTwoBlocks>
inline void multiply_tiles(const char* a, std::size_t a_stride, const char* b, std::size_t steps,
                           void* sums) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kTwoBlocks) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::size_t step = 0; step < steps; ++step, a += kTileBytes, b += kTileRows * kPanelBytes) {
    _tile_loadd(6, b, kPanelBytes);
    _tile_loadd(7, b + kTileBytes, kPanelBytes);
    _tile_loadd(4, a, a_stride);
    Tiles::multiply_first();
    if constexpr (kTwoBlocks) {
      _tile_loadd(5, a + kTileRows * a_stride, a_stride);
      Tiles::multiply_second();
    }
  }
  char* const to = static_cast<char*>(sums);
  _tile_stored(0, to, kPanelBytes);
  _tile_stored(1, to + kTileBytes, kPanelBytes);
  if constexpr (kTwoBlocks) {
    _tile_stored(2, to + kTileRows * kPanelBytes, kPanelBytes);
    _tile_stored(3, to + kTileRows * kPanelBytes + kTileBytes, kPanelBytes);
  }
}

// Calls `finish_row(sums, row, column)` for every row of a and panel of b, with the kPanel sums there.
template <class Tiles, class FinishRow>
inline void multiply_with_tiles(const void* a, std::size_t a_stride, const void* b, std::size_t m,
                                std::size_t n, std::size_t steps, FinishRow finish_row) {
  alignas(64) std::int32_t sums[2 * kTileRows * kPanel];
  const auto blocks = [&](std::size_t begin, std::size_t end, std::size_t rows) {
    const TileConfig config(rows < kTileRows ? rows : kTileRows, rows > kTileRows ? rows - kTileRows : 0);
    _tile_loadconfig(&config);
    for (std::size_t column = 0; column < n; column += kPanel) {
      const char* panel = static_cast<const char*>(b) + column / kPanel * steps * kTileRows * kPanelBytes;
      for (std::size_t row = begin; row < end; row += rows) {
        const char* first = static_cast<const char*>(a) + row * a_stride;
        if (rows > kTileRows) {
          multiply_tiles<Tiles, true>(first, a_stride, panel, steps, sums);
        } else {
          multiply_tiles<Tiles, false>(first, a_stride, panel, steps, sums);
        }
        for (std::size_t i = 0; i < rows; ++i) finish_row(sums + i * kPanel, row + i, column);
      }
    }
  };
  const std::size_t whole = m / (2 * kTileRows) * 2 * kTileRows;
  if (whole) blocks(0, whole, 2 * kTileRows);
  if (whole < m) blocks(whole, m, m - whole);
  _tile_release();  // so that the kernel need not save the tiles
}

}  // namespace

void gemm_bf16_amx(const std::uint16_t* a, std::size_t a_stride, const std::uint16_t* b, std::size_t m,
                   std::size_t n, std::size_t k, Output out) {
  constexpr std::size_t kStep = kTileBytes / sizeof *a;
  if (k % kStep) return gemm_bf16_dot(a, a_stride, b, m, n, k, out);
  const auto finish_row = [&](const std::int32_t* sums, std::size_t row, std::size_t column) {
    const __m512 products[kVectors] = {_mm512_load_ps(sums), _mm512_load_ps(sums + kWidth)};
    finish(products, row, column, n, out);
  };
  multiply_with_tiles<Bfloat16Tiles>(a, a_stride * sizeof *a, b, m, n, k / kStep, finish_row);
}

void gemm_int8_amx(const std::int8_t* a, std::size_t a_stride, const float* a_scales,
                   const std::int32_t* a_sums, const std::uint8_t* b, const float* b_scales, std::size_t m,
                   std::size_t n, std::size_t k, Output out) {
  constexpr std::size_t kStep = kTileBytes;
  if (k % kStep) return gemm_int8_dot(a, a_stride, a_scales, a_sums, b, b_scales, m, n, k, out);
  const auto finish_row = [&](const std::int32_t* sums, std::size_t row, std::size_t column) {
    const __m512i products[kVectors] = {_mm512_load_si512(sums), _mm512_load_si512(sums + kWidth)};
    finish_int8(products, a_scales[row], a_sums[row], b_scales, row, column, n, out);
  };
  multiply_with_tiles<Int8Tiles>(a, a_stride, b, m, n, k / kStep, finish_row);
}

}  // namespace streamasr::acoustic
#endif
