// Implement the kernels once, for vectors of kWidth floats. Included by a file for each instruction set,
// after its
// `#pragma GCC target`: nothing here may be shared between those files, so all of it has internal linkage.

namespace streamasr::acoustic {
namespace {

typedef float Floats __attribute__((vector_size(kWidth * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(kWidth * sizeof(float))));
typedef double Doubles __attribute__((vector_size(kWidth * sizeof(double))));
typedef float UnalignedFloats __attribute__((vector_size(kWidth * sizeof(float)), aligned(4)));

inline Floats load(const float* x) { return *reinterpret_cast<const UnalignedFloats*>(x); }
inline void store(float* x, Floats value) { *reinterpret_cast<UnalignedFloats*>(x) = value; }
inline Floats splat(float x) { return x - Floats{}; }

inline float sum_of(Floats x) {
  float sum = 0;
  for (std::size_t i = 0; i < kWidth; ++i) sum += x[i];
  return sum;
}

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
    for (std::size_t i = 0; i < kM; ++i)
      for (std::size_t j = 0; j < kVectors; ++j) totals[i][j] += __builtin_convertvector(sums[i][j], Total);
  }
  for (std::size_t i = 0; i < kM; ++i) {
    Floats sums[kVectors];
    for (std::size_t j = 0; j < kVectors; ++j) sums[j] = __builtin_convertvector(totals[i][j], Floats);
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

void layer_norm(const float* x, std::size_t m, std::size_t n, const float* weight, const float* bias,
                float* out) {
  constexpr float kEpsilon = 1e-5f;
  const std::size_t whole = n / kWidth * kWidth;
  for (std::size_t row = 0; row < m; ++row, x += n, out += n) {
    Floats sums = {};
    for (std::size_t i = 0; i < whole; i += kWidth) sums += load(x + i);
    float sum = sum_of(sums);
    for (std::size_t i = whole; i < n; ++i) sum += x[i];
    const float mean = sum / static_cast<float>(n);
    Floats squares = {};
    for (std::size_t i = 0; i < whole; i += kWidth) {
      const Floats d = load(x + i) - mean;
      squares += d * d;
    }
    float square = sum_of(squares);
    for (std::size_t i = whole; i < n; ++i) square += (x[i] - mean) * (x[i] - mean);
    const float scale = 1.0f / __builtin_sqrtf(square / static_cast<float>(n) + kEpsilon);
    for (std::size_t i = 0; i < whole; i += kWidth) {
      store(out + i, (load(x + i) - mean) * scale * load(weight + i) + load(bias + i));
    }
    for (std::size_t i = whole; i < n; ++i) out[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  }
}

// exp of values up to 88, below 2 ulp; 0 below -87 (Cody and Waite 1980, section 6: the argument is reduced
// by multiples of ln 2 in two parts).
inline Floats exp_of(Floats x) {
  const Floats bounded = x < -87.0f ? splat(-87.0f) : x;
  constexpr float kRounder = 12582912.0f;
  const Floats shifted = bounded * 1.44269504f + kRounder;
  const Floats n = shifted - kRounder;
  Floats r = bounded - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Floats p = splat(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Ints exponent = (std::bit_cast<Ints>(shifted) - std::bit_cast<std::int32_t>(kRounder)) << 23;
  const Floats result = std::bit_cast<Floats>(std::bit_cast<Ints>(p) + exponent);
  return x < -87.0f ? Floats{} : result;
}

// The error function, within 1 ulp: an odd polynomial near 0, beyond it 1 - exp of a polynomial.
inline Floats erf_of(Floats x) {
  const Floats t = x < 0 ? -x : x;
  const Floats s = x * x;
  Floats near = splat(-5.96761703e-4f);
  near = near * s + 4.99119423e-3f;
  near = near * s - 2.67681349e-2f;
  near = near * s + 1.12819925e-1f;
  near = near * s - 3.76125336e-1f;
  near = near * s + 1.28379166e-1f;
  near = near * x + x;
  const Floats bounded = t > 4.0f ? splat(4.0f) : t;
  Floats far = -1.72853470e-5f * bounded + 3.83197126e-4f;
  const Floats u = -3.88396438e-3f * bounded + 2.42546219e-2f;
  far = far * (bounded * bounded) + u;
  far = far * bounded - 1.06777877e-1f;
  far = far * bounded - 6.34846687e-1f;
  far = far * bounded - 1.28717512e-1f;
  far = far * bounded - bounded;
  far = 1.0f - exp_of(far);
  return t > 0.927734375f ? (x < 0 ? -far : far) : near;
}

inline Floats gelu_of(Floats x) { return 0.5f * x * (1.0f + erf_of(x * 0.70710678f)); }

void gelu(float* x, std::size_t count) {
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(x + i, gelu_of(load(x + i)));
  if (i == count) return;
  float rest[kWidth] = {};
  for (std::size_t j = 0; i + j < count; ++j) rest[j] = x[i + j];
  store(rest, gelu_of(load(rest)));
  for (std::size_t j = 0; i + j < count; ++j) x[i + j] = rest[j];
}

float softmax(float* x, std::size_t first, std::size_t offset, std::size_t second) {
  const float lowest = -__builtin_inff();
  const struct {
    float* begin;
    std::size_t count;
  } parts[] = {{x, first}, {x + offset, second}};
  Floats most = splat(lowest);
  for (const auto& part : parts) {
    // The last vector may reach beyond the valid scores, not beyond their panel.
    for (std::size_t i = part.count; i % kWidth; ++i) part.begin[i] = lowest;
    for (std::size_t i = 0; i < part.count; i += kWidth) {
      const Floats value = load(part.begin + i);
      most = value > most ? value : most;
    }
  }
  float top = lowest;
  for (std::size_t j = 0; j < kWidth; ++j) top = most[j] > top ? most[j] : top;
  Floats sums = {};
  for (const auto& part : parts) {
    for (std::size_t i = 0; i < part.count; i += kWidth) {
      const Floats value = exp_of(load(part.begin + i) - top);
      sums += value;
      store(part.begin + i, value);
    }
  }
  return sum_of(sums);
}

constexpr Kernels kKernels = {gemm<32, Floats>, gemm<16, Doubles>, nullptr, gemm_int8, to_bf16,
                              to_int8,          layer_norm,        gelu,    softmax};

}  // namespace
}  // namespace streamasr::acoustic
