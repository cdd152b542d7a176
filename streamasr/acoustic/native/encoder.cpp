#include "encoder.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <stdexcept>
#include <thread>

namespace streamasr::acoustic {

void Encoder::check(std::size_t length, std::size_t advance) const {
  if (advance > length) throw std::invalid_argument("a row advances by more than its length");
}

void Encoder::step(std::vector<StreamChunk>& chunks, std::size_t threads) const {
  threads = std::max<std::size_t>(1, std::min(threads, chunks.size()));
  const std::size_t together = std::min(streams_together_, (chunks.size() + threads - 1) / threads);
  std::atomic<std::size_t> next{0};
  std::exception_ptr failure;
  const auto work = [&] {
    std::unique_ptr<Scratch> scratch;
    {
      const std::lock_guard lock(scratch_mutex_);
      if (!free_scratch_.empty()) {
        scratch = std::move(free_scratch_.back());
        free_scratch_.pop_back();
      }
    }
    try {
      if (!scratch) scratch = std::make_unique<Scratch>();
      for (std::size_t at; (at = next.fetch_add(together)) < chunks.size();) {
        step_together(chunks.data() + at, std::min(together, chunks.size() - at), *scratch);
      }
    } catch (...) {
      const std::lock_guard lock(scratch_mutex_);
      failure = std::current_exception();
    }
    const std::lock_guard lock(scratch_mutex_);
    if (scratch) free_scratch_.push_back(std::move(scratch));
  };
  {
    std::vector<std::jthread> helpers;
    for (std::size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
    work();
  }
  if (failure) std::rethrow_exception(failure);
}

void Encoder::write_log_probs(const StreamChunk* chunks, const std::vector<std::size_t>& frames,
                              const float* x, std::size_t dim, Scratch& s) const {
  const std::size_t tokens = head_.outputs();
  std::size_t rows = 0;
  for (const std::size_t count : frames) rows += count;
  const float* logits = s.logits.at_least(rows * tokens);
  head_.apply(kernels_, x, dim, rows, s.logits.data(), tokens, false, s.input);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    float* log_probs = chunks[i].log_probs_TV;
    for (std::size_t t = 0; t < frames[i]; ++t, logits += tokens, log_probs += tokens) {
      const float largest = *std::max_element(logits, logits + tokens);
      double sum = 0;
      for (std::size_t v = 0; v < tokens; ++v) sum += std::exp(logits[v] - largest);
      const auto log_sum = static_cast<float>(std::log(sum));
      for (std::size_t v = 0; v < tokens; ++v) log_probs[v] = logits[v] - largest - log_sum;
    }
  }
}

}  // namespace streamasr::acoustic
