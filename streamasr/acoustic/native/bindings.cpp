// Bind the native encoder step to Python. Steps run without the GIL.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>

#include "fastconformer.hpp"
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
  if (name == "amx") return Instructions::kAmx;
  throw std::invalid_argument("unknown instructions " + name);
}

// The sizes and weights of an encoder by their names. Weights stay until they are packed.
class Description {
 public:
  Description(const nb::dict& sizes, const nb::dict& weights) : sizes_(sizes), weights_(weights) {}

  std::size_t operator[](const char* name) const { return nb::cast<std::size_t>(sizes_[name]); }

  GetWeight weights() {
    return [this](const std::string& name) -> const float* {
      if (!weights_.contains(name.c_str())) return nullptr;
      kept_.push_back(nb::cast<Array>(weights_[name.c_str()]));
      return kept_.back().data();
    };
  }

 private:
  const nb::dict &sizes_, &weights_;
  std::vector<Array> kept_;
};

std::shared_ptr<Encoder> make_whisper(const nb::dict& sizes, const nb::dict& weights, Matrix positions,
                                      const std::string& precision, const std::string& instructions) {
  Description model(sizes, weights);
  const WhisperSizes whisper{model["n_mels"],
                             model["dim"],
                             model["heads"],
                             model["layers"],
                             model["stem_kernel"],
                             model["stem_stride"],
                             model["merge_after_layers"],
                             model["merge_frames"],
                             model["left_context_frames"],
                             model["position_period_frames"],
                             model["vocab_size"]};
  const Instructions best = best_instructions(instructions_of(instructions));
  return std::make_shared<WhisperEncoder>(whisper, model.weights(), positions.data(),
                                          precision_of(precision, kernels_for(best)), best);
}

std::shared_ptr<Encoder> make_fastconformer(const nb::dict& sizes, const nb::dict& weights, Matrix distances,
                                            const std::string& precision, const std::string& instructions) {
  Description model(sizes, weights);
  const FastConformerSizes fastconformer{model["n_mels"],
                                         model["dim"],
                                         model["heads"],
                                         model["layers"],
                                         model["subsampling"],
                                         model["subsampling_channels"],
                                         model["feed_forward_factor"],
                                         model["conv_kernel"],
                                         model["left_context_frames"],
                                         model["longest_frames"],
                                         model["scale_input"] != 0,
                                         model["vocab_size"]};
  const Instructions best = best_instructions(instructions_of(instructions));
  return std::make_shared<FastConformerEncoder>(fastconformer, model.weights(), distances.data(),
                                                precision_of(precision, kernels_for(best)), best);
}

// One product of matrices [rows, inputs] and [inputs, outputs], so that the caller can measure how long it
// takes.
class Product {
 public:
  Product(const std::string& precision, std::size_t rows, std::size_t inputs, std::size_t outputs)
      : kernels_(kernels_for(best_instructions(kMostInstructions))),
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
  Slots(std::shared_ptr<Encoder> encoder, std::size_t count) : encoder_(std::move(encoder)), slots_(count) {}

  Slots(const Slots&) = delete;

  void reset(std::size_t slot) { encoder_->reset(slots_.at(slot)); }

  // Returns the encoder frames by which each stream moved on.
  std::vector<std::size_t> step(const std::vector<std::size_t>& slots, Mel mel_BTM,
                                const std::vector<std::size_t>& lengths_B,
                                const std::vector<std::size_t>& advance_B, LogProbs log_probs_BTV,
                                std::size_t threads) {
    const std::size_t batch = slots.size(), frames = mel_BTM.shape(1), n_mels = encoder_->n_mels();
    if (mel_BTM.shape(0) != batch || lengths_B.size() != batch || advance_B.size() != batch ||
        log_probs_BTV.shape(0) != batch || mel_BTM.shape(2) != n_mels ||
        log_probs_BTV.shape(1) != frames / encoder_->subsampling()) {
      throw std::invalid_argument("the arguments of a step differ in batch size, bands or frames");
    }
    std::vector<StreamChunk> chunks;
    std::vector<std::size_t> frames_B;
    for (std::size_t i = 0; i < batch; ++i) {
      if (lengths_B[i] > frames) throw std::invalid_argument("a row is longer than its chunk");
      encoder_->check(lengths_B[i], advance_B[i]);
      Slot& slot = slots_.at(slots[i]);
      if (slot.rings.empty()) {
        throw std::invalid_argument("slot " + std::to_string(slots[i]) + " has no stream");
      }
      if (std::count(slots.begin(), slots.end(), slots[i]) > 1) {
        throw std::invalid_argument("slot " + std::to_string(slots[i]) + " is in the batch twice");
      }
      chunks.push_back({&slot, mel_BTM.data() + i * frames * n_mels, lengths_B[i], advance_B[i],
                        log_probs_BTV.data() + i * log_probs_BTV.shape(1) * log_probs_BTV.shape(2)});
      if (encoder_->frames(slot, lengths_B[i]) > log_probs_BTV.shape(1))
        throw std::invalid_argument("a chunk is no whole number of encoder frames");
      frames_B.push_back(encoder_->frames(slot, advance_B[i]));
    }
    const nb::gil_scoped_release released;
    encoder_->step(chunks, threads);
    return frames_B;
  }

 private:
  std::shared_ptr<Encoder> encoder_;
  std::vector<Slot> slots_;
};

}  // namespace
}  // namespace streamasr::acoustic

NB_MODULE(_native, m) {
  using namespace streamasr::acoustic;
  m.def("instructions", [] { return describe(best_instructions(kMostInstructions)); });
  m.def("precisions", [] {
    std::vector<std::string> names{"float32"};
    if (kernels_for(best_instructions(kMostInstructions)).gemm_bf16) names.emplace_back("bfloat16");
    names.emplace_back("int8");
    return names;
  });
  nb::class_<Product>(m, "Product")
      .def(nb::init<const std::string&, std::size_t, std::size_t, std::size_t>(), "precision"_a, "rows"_a,
           "inputs"_a, "outputs"_a)
      .def("run", &Product::run, ReleasesGil());
  nb::class_<Encoder>(m, "Encoder");
  m.def("make_whisper", &make_whisper, "sizes"_a, "weights"_a, "positions"_a, "precision"_a,
        "instructions"_a);
  m.def("make_fastconformer", &make_fastconformer, "sizes"_a, "weights"_a, "distances"_a, "precision"_a,
        "instructions"_a);
  nb::class_<Slots>(m, "Slots")
      .def(nb::init<std::shared_ptr<Encoder>, std::size_t>())
      .def("reset", &Slots::reset)
      .def("step", &Slots::step);
}
