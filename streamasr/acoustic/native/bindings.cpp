// Bind the native encoder step to Python. Steps run without the GIL.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>

#include "whisper.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace streamasr::acoustic {
namespace {

using ReleasesGil = nb::call_guard<nb::gil_scoped_release>;
using Matrix = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Mel = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using LogProbs = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Array = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;

Precision precision_of(const std::string& name, const Kernels& kernels) {
  if (name == "float32") return Precision::kFloat32;
  if (name == "int8") return Precision::kInt8;
  if (name != "bfloat16") throw std::invalid_argument("unknown precision " + name);
  if (!kernels.gemm_bf16) throw std::invalid_argument("this processor has no bfloat16 products");
  return Precision::kBfloat16;
}

Instructions instructions_of(const std::string& name) {
  if (name == "baseline") return Instructions::kBaseline;
  if (name == "avx2") return Instructions::kAvx2;
  if (name == "avx512") return Instructions::kAvx512;
  throw std::invalid_argument("unknown instructions " + name);
}

std::shared_ptr<WhisperEncoder> make_whisper(const nb::dict& sizes, const nb::dict& weights, Matrix positions,
                                             const std::string& precision, const std::string& instructions) {
  const auto size = [&](const char* name) { return nb::cast<std::size_t>(sizes[name]); };
  const WhisperSizes whisper{size("n_mels"),
                             size("dim"),
                             size("heads"),
                             size("layers"),
                             size("stem_kernel"),
                             size("stem_stride"),
                             size("merge_after_layers"),
                             size("merge_frames"),
                             size("left_context_frames"),
                             size("position_period_frames"),
                             size("vocab_size")};
  std::vector<Array> kept;  // until the weights are packed
  const auto weight = [&](const std::string& name) {
    kept.push_back(nb::cast<Array>(weights[name.c_str()]));
    return kept.back().data();
  };
  const Instructions best = best_instructions(instructions_of(instructions));
  return std::make_shared<WhisperEncoder>(whisper, weight, positions.data(),
                                          precision_of(precision, kernels_for(best)), best);
}

// One product of matrices [rows, inputs] and [inputs, outputs], so that the caller can measure how long it
// takes.
class Product {
 public:
  Product(const std::string& precision, std::size_t rows, std::size_t inputs, std::size_t outputs)
      : kernels_(kernels_for(best_instructions(Instructions::kAvx512))),
        rows_(rows),
        inputs_(inputs),
        input_(rows * inputs),
        output_(rows * outputs) {
    const std::vector<float> weights(inputs * outputs, 1.0f), bias(outputs);
    std::fill_n(input_.data(), input_.size(), 1.0f);
    linear_ = Linear(weights.data(), bias.data(), outputs, inputs, precision_of(precision, kernels_));
  }
  Product(const Product&) = delete;

  void run() {
    linear_.apply(kernels_, input_.data(), inputs_, rows_, output_.data(), linear_.outputs(), false,
                  scratch_);
  }

 private:
  const Kernels& kernels_;
  std::size_t rows_, inputs_;
  Buffer<float> input_, output_;
  Linear linear_;
  QuantisedInput scratch_;
};

// The states of a fixed number of streams.
class Slots {
 public:
  Slots(std::shared_ptr<WhisperEncoder> encoder, std::size_t count, std::size_t n_mels,
        std::size_t subsampling)
      : encoder_(std::move(encoder)), slots_(count), n_mels_(n_mels), subsampling_(subsampling) {}

  Slots(const Slots&) = delete;

  void reset(std::size_t slot) { encoder_->reset(slots_.at(slot)); }

  void step(const std::vector<std::size_t>& slots, Mel mel_BTM, const std::vector<std::size_t>& lengths_B,
            const std::vector<std::size_t>& advance_B, LogProbs log_probs_BTV, std::size_t threads) {
    const std::size_t batch = slots.size(), frames = mel_BTM.shape(1);
    if (mel_BTM.shape(0) != batch || lengths_B.size() != batch || advance_B.size() != batch ||
        log_probs_BTV.shape(0) != batch || mel_BTM.shape(2) != n_mels_ ||
        log_probs_BTV.shape(1) != frames / subsampling_) {
      throw std::invalid_argument("the arguments of a step differ in batch size, bands or frames");
    }
    std::vector<StreamChunk> chunks;
    for (std::size_t i = 0; i < batch; ++i) {
      if (lengths_B[i] > frames || advance_B[i] > lengths_B[i]) {
        throw std::invalid_argument("a row is longer than its chunk, or advances by more than its length");
      }
      if (slots_.at(slots[i]).keys.empty()) {
        throw std::invalid_argument("slot " + std::to_string(slots[i]) + " has no stream");
      }
      if (std::count(slots.begin(), slots.end(), slots[i]) > 1) {
        throw std::invalid_argument("slot " + std::to_string(slots[i]) + " is in the batch twice");
      }
      chunks.push_back({&slots_.at(slots[i]), mel_BTM.data() + i * frames * n_mels_, lengths_B[i],
                        advance_B[i],
                        log_probs_BTV.data() + i * log_probs_BTV.shape(1) * log_probs_BTV.shape(2)});
    }
    const nb::gil_scoped_release released;
    encoder_->step(chunks, threads);
  }

 private:
  std::shared_ptr<WhisperEncoder> encoder_;
  std::vector<Slot> slots_;
  std::size_t n_mels_, subsampling_;
};

}  // namespace
}  // namespace streamasr::acoustic

NB_MODULE(_native, m) {
  using namespace streamasr::acoustic;
  m.def("instructions", [] { return describe(best_instructions(Instructions::kAvx512)); });
  m.def("precisions", [] {
    std::vector<std::string> names{"float32"};
    if (kernels_for(best_instructions(Instructions::kAvx512)).gemm_bf16) names.emplace_back("bfloat16");
    names.emplace_back("int8");
    return names;
  });
  nb::class_<Product>(m, "Product")
      .def(nb::init<const std::string&, std::size_t, std::size_t, std::size_t>(), "precision"_a, "rows"_a,
           "inputs"_a, "outputs"_a)
      .def("run", &Product::run, ReleasesGil());
  nb::class_<WhisperEncoder>(m, "WhisperEncoder");
  m.def("make_whisper", &make_whisper, "sizes"_a, "weights"_a, "positions"_a, "precision"_a,
        "instructions"_a);
  nb::class_<Slots>(m, "Slots")
      .def(nb::init<std::shared_ptr<WhisperEncoder>, std::size_t, std::size_t, std::size_t>())
      .def("reset", &Slots::reset)
      .def("step", &Slots::step);
}
