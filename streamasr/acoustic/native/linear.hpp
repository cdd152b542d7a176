// Keep a linear layer's weights packed for one precision, and apply it.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "kernels.hpp"

namespace streamasr::acoustic {

// kWide is float32 with sums in float64.
enum class Precision { kFloat32, kWide, kBfloat16, kInt8 };

// Memory of a fixed size that is aligned for vectors, all zero at first.
template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    data_.reset(static_cast<T*>(std::aligned_alloc(kAlignment, round_up(size * sizeof(T), kAlignment))));
    if (!data_) throw std::bad_alloc();
    std::fill_n(data_.get(), size, T{});
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  // Grows to `size` values, which loses the old ones.
  T* at_least(std::size_t size) {
    if (size > size_) *this = Buffer(size);
    return data();
  }

 private:
  static constexpr std::size_t kAlignment = 64;
  struct Free {
    void operator()(T* data) const { std::free(data); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

inline Buffer<float> copied(const float* values, std::size_t count) {
  Buffer<float> copy(count);
  std::copy_n(values, count, copy.data());
  return copy;
}

inline std::uint16_t to_bf16(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// A layer's input in the precision of its weights.
struct QuantisedInput {
  Buffer<std::uint16_t> bf16;
  Buffer<std::int8_t> int8;
  Buffer<float> scales;
  Buffer<std::int32_t> sums;
};

class Linear {
 public:
  Linear() = default;
  // `weight` is [n, k], `bias` [n].
  Linear(const float* weight, const float* bias, std::size_t n, std::size_t k, Precision precision)
      : n_(n), k_(k), precision_(precision), bias_(round_up(n, kPanel)) {
    std::copy_n(bias, n, bias_.data());
    const std::size_t columns = round_up(n, kPanel);
    const auto place = [](std::size_t column, std::size_t row, std::size_t rows, std::size_t group) {
      const std::size_t panel = column / kPanel, lane = column % kPanel;
      return panel * kPanel * rows + (row / group * kPanel + lane) * group + row % group;
    };
    switch (precision) {
      case Precision::kFloat32:
      case Precision::kWide:
        float32_ = Buffer<float>(columns * k);
        for (std::size_t i = 0; i < n; ++i)
          for (std::size_t j = 0; j < k; ++j) float32_.data()[place(i, j, k, 1)] = weight[i * k + j];
        break;
      case Precision::kBfloat16: {
        const std::size_t rows = round_up(k, 2);
        bfloat16_ = Buffer<std::uint16_t>(columns * rows);
        for (std::size_t i = 0; i < n; ++i)
          for (std::size_t j = 0; j < k; ++j)
            bfloat16_.data()[place(i, j, rows, 2)] = to_bf16(weight[i * k + j]);
        break;
      }
      case Precision::kInt8: {
        const std::size_t rows = round_up(k, 4);
        int8_ = Buffer<std::uint8_t>(columns * rows);
        std::fill_n(int8_.data(), int8_.size(), std::uint8_t{128});
        scales_ = Buffer<float>(columns);
        for (std::size_t i = 0; i < n; ++i) {
          const float* row = weight + i * k;
          float largest = 0;
          for (std::size_t j = 0; j < k; ++j) largest = std::max(largest, std::abs(row[j]));
          scales_.data()[i] = largest / 127.0f;
          const float factor = largest > 0 ? 127.0f / largest : 0.0f;
          for (std::size_t j = 0; j < k; ++j) {
            int8_.data()[place(i, j, rows, 4)] = static_cast<std::uint8_t>(128 + std::lrint(row[j] * factor));
          }
        }
        break;
      }
    }
  }

  std::size_t outputs() const { return n_; }

  // c = a weight^T + bias, or c += it; `a` is [m, k] and `c` [m, n], with strides in floats.
  void apply(const Kernels& kernels, const float* a, std::size_t a_stride, std::size_t m, float* c,
             std::size_t c_stride, bool add, QuantisedInput& input) const {
    const Output out{c, c_stride, bias_.data(), add};
    switch (precision_) {
      case Precision::kFloat32:
        kernels.gemm_f32(a, a_stride, {float32_.data(), k_ * kPanel}, m, n_, k_, out);
        break;
      case Precision::kWide:
        kernels.gemm_wide(a, a_stride, {float32_.data(), k_ * kPanel}, m, n_, k_, out);
        break;
      case Precision::kBfloat16: {
        const std::size_t stride = round_up(k_, 2);
        std::uint16_t* converted = input.bf16.at_least(m * stride);
        kernels.to_bf16(a, a_stride, m, k_, converted);
        kernels.gemm_bf16(converted, stride, bfloat16_.data(), m, n_, k_, out);
        break;
      }
      case Precision::kInt8: {
        const std::size_t stride = round_up(k_, 4) * kernels.int8_bytes;
        std::int8_t* converted = input.int8.at_least(m * stride);
        float* scales = input.scales.at_least(m);
        std::int32_t* sums = input.sums.at_least(m);
        kernels.to_int8(a, a_stride, m, k_, converted, scales, sums);
        kernels.gemm_int8(converted, stride, scales, sums, int8_.data(), scales_.data(), m, n_, k_, out);
        break;
      }
    }
  }

 private:
  std::size_t n_ = 0, k_ = 0;
  Precision precision_ = Precision::kFloat32;
  Buffer<float> bias_, float32_, scales_;
  Buffer<std::uint16_t> bfloat16_;
  Buffer<std::uint8_t> int8_;
};

}  // namespace streamasr::acoustic
