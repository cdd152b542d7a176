// Implement what is no matrix product, for vectors of kWidth floats; see kernels_body.hpp.

namespace streamasr::acoustic {
namespace {

typedef float Floats __attribute__((vector_size(kWidth * sizeof(float))));
typedef std::int32_t Ints __attribute__((vector_size(kWidth * sizeof(float))));
typedef float HalfFloats __attribute__((vector_size(kWidth / 2 * sizeof(float))));
typedef double HalfDoubles __attribute__((vector_size(kWidth / 2 * sizeof(double))));

// kWidth doubles, in two vectors of the size of one of floats.
struct Doubles {
  HalfDoubles low, high;
};
typedef float UnalignedFloats __attribute__((vector_size(kWidth * sizeof(float)), aligned(4)));

inline Floats load(const float* x) { return *reinterpret_cast<const UnalignedFloats*>(x); }
inline void store(float* x, Floats value) { *reinterpret_cast<UnalignedFloats*>(x) = value; }
inline Floats splat(float x) { return x - Floats{}; }

inline void add_to(Floats& total, Floats x) { total += x; }

inline void add_to(Doubles& total, Floats x) {
  HalfFloats low, high;
  __builtin_memcpy(&low, &x, sizeof low);
  __builtin_memcpy(&high, reinterpret_cast<const char*>(&x) + sizeof low, sizeof high);
  total.low += __builtin_convertvector(low, HalfDoubles);
  total.high += __builtin_convertvector(high, HalfDoubles);
}

inline Floats rounded(Floats total) { return total; }

inline Floats rounded(const Doubles& total) {
  const HalfFloats halves[] = {__builtin_convertvector(total.low, HalfFloats),
                               __builtin_convertvector(total.high, HalfFloats)};
  Floats result;
  __builtin_memcpy(&result, halves, sizeof result);
  return result;
}

inline float sum_of(Floats x) {
  float sum = 0;
  for (std::size_t i = 0; i < kWidth; ++i) sum += x[i];
  return sum;
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

inline Floats sigmoid_of(Floats x) { return 1.0f / (1.0f + exp_of(x < -87.0f ? splat(87.0f) : -x)); }

inline Floats silu_of(Floats x) { return x * sigmoid_of(x); }

// Replaces values in place; a function of a value must not depend on its place in a vector.
template <class Function>
inline void map(float* x, std::size_t count, Function function) {
  std::size_t i = 0;
  for (; i + kWidth <= count; i += kWidth) store(x + i, function(load(x + i)));
  if (i == count) return;
  float rest[kWidth] = {};
  for (std::size_t j = 0; i + j < count; ++j) rest[j] = x[i + j];
  store(rest, function(load(rest)));
  for (std::size_t j = 0; i + j < count; ++j) x[i + j] = rest[j];
}

void gelu(float* x, std::size_t count) { map(x, count, gelu_of); }

void silu(float* x, std::size_t count) { map(x, count, silu_of); }

void relu(float* x, std::size_t count) {
  map(x, count, [](Floats value) { return value > 0 ? value : Floats{}; });
}

void glu(const float* x, std::size_t m, std::size_t n, float* out) {
  for (std::size_t row = 0; row < m; ++row, x += 2 * n, out += n) {
    for (std::size_t i = 0; i < n; ++i) out[i] = x[n + i];
    map(out, n, sigmoid_of);
    for (std::size_t i = 0; i < n; ++i) out[i] *= x[i];
  }
}

void depthwise(const float* const* taps, std::size_t count, const float* weights, const float* bias,
               std::size_t n, float* out) {
  std::size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    Floats sum = load(bias + i);
    for (std::size_t tap = 0; tap < count; ++tap)
      if (taps[tap]) sum += load(taps[tap] + i) * load(weights + tap * n + i);
    store(out + i, sum);
  }
  for (; i < n; ++i) {
    float sum = bias[i];
    for (std::size_t tap = 0; tap < count; ++tap)
      if (taps[tap]) sum += taps[tap][i] * weights[tap * n + i];
    out[i] = sum;
  }
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

}  // namespace
}  // namespace streamasr::acoustic
