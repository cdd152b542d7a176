// Bind the partition function of CTC-CRF to Python. It runs without the GIL, a row at a time on each thread.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "partition.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace streamasr::training {
namespace {

using Weights = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using LogProbs = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Occupancies = nb::ndarray<float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;

std::vector<double> log_partitions(LogProbs log_probs_BTV, const std::vector<std::size_t>& frames_B,
                                   Weights weights, std::size_t order, std::size_t blank, float prune,
                                   Occupancies occupancies_BTV, std::size_t threads) {
  const std::size_t rows = log_probs_BTV.shape(0), frames = log_probs_BTV.shape(1),
                    tokens = log_probs_BTV.shape(2);
  std::size_t entries = 1;
  for (std::size_t i = 0; i < order; ++i) entries *= tokens;
  if (order < 2 || weights.shape(0) != entries || blank >= tokens) {
    throw std::invalid_argument("the n-gram weights do not fit the tokens");
  }
  if (frames_B.size() != rows || occupancies_BTV.shape(0) != rows || occupancies_BTV.shape(1) != frames ||
      occupancies_BTV.shape(2) != tokens) {
    throw std::invalid_argument("the log-probs, lengths and occupancies differ in rows, frames or tokens");
  }
  for (const std::size_t length : frames_B) {
    if (length > frames) throw std::invalid_argument("a row is longer than the batch");
  }
  const NGram ngram(weights.data(), order, tokens, blank);
  std::vector<double> sums(rows);
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t row; (row = next++) < rows;) {
      const std::size_t offset = row * frames * tokens;
      sums[row] = log_partition(log_probs_BTV.data() + offset, frames_B[row], ngram, prune,
                                occupancies_BTV.data() + offset);
    }
  };
  const nb::gil_scoped_release release;
  std::vector<std::jthread> helpers;
  for (std::size_t i = 1; i < std::min(threads, rows); ++i) helpers.emplace_back(work);
  work();
  helpers.clear();
  return sums;
}

}  // namespace
}  // namespace streamasr::training

NB_MODULE(_native, module) {
  using namespace streamasr::training;
  module.def("log_partitions", &log_partitions, "log_probs_BTV"_a, "frames_B"_a, "weights"_a, "order"_a,
             "blank"_a, "prune"_a, "occupancies_BTV"_a.noconvert(), "threads"_a);
}
