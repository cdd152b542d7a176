// Step the streams of an encoder, whose states stay in slots, on several threads. Each family derives from
// Encoder.
//
// Shape suffixes: T frames, M mel bands, D model width, V tokens.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "attention.hpp"
#include "linear.hpp"
#include "slot.hpp"

namespace streamasr::acoustic {

// One weight by its name in the model's file, or null if there is none of that name.
using GetWeight = std::function<const float*(const std::string&)>;

struct LayerNorm {
  Buffer<float> weight, bias;

  LayerNorm() = default;
  LayerNorm(const GetWeight& get, const std::string& name, std::size_t dim)
      : weight(copied(get(name + ".weight"), dim)), bias(copied(get(name + ".bias"), dim)) {}

  void apply(const Kernels& kernels, const float* x, std::size_t rows, float* out) const {
    kernels.layer_norm(x, rows, weight.size(), weight.data(), bias.data(), out);
  }
};

// What a step computes in between, on one thread.
struct Scratch {
  Buffer<float> mel, middle, x, normed, projected, context, hidden, logits;
  AttentionScratch attention;
  QuantisedInput input;
};

class Encoder {
 public:
  virtual ~Encoder() = default;
  Encoder(const Encoder&) = delete;

  // A slot's stream begins anew. Its memory is allocated when this is first called.
  virtual void reset(Slot& slot) const = 0;

  // The encoder frames that a chunk of a slot's stream gives, of which the first `length` mel frames are
  // valid.
  virtual std::size_t frames(const Slot& slot, std::size_t length) const = 0;

  // Throws std::invalid_argument if a step cannot have such a row.
  virtual void check(std::size_t length, std::size_t advance) const;

  // Steps streams in different slots on up to `threads` threads, the caller's included.
  void step(std::vector<StreamChunk>& chunks, std::size_t threads) const;

  std::size_t n_mels() const { return n_mels_; }
  std::size_t subsampling() const { return subsampling_; }

 protected:
  // `streams_together`: streams whose rows go through the layers together. More reuse a panel of weights more
  // often while it is in the cache, fewer keep their own rows there.
  Encoder(const Kernels& kernels, std::size_t n_mels, std::size_t subsampling, std::size_t streams_together)
      : kernels_(kernels), n_mels_(n_mels), subsampling_(subsampling), streams_together_(streams_together) {}

  virtual void step_together(StreamChunk* chunks, std::size_t count, Scratch& scratch) const = 0;

  // Writes the log-probs of hidden states `x` [rows, D], which are the chunks' frames one after another.
  void write_log_probs(const StreamChunk* chunks, const std::vector<std::size_t>& frames, const float* x,
                       std::size_t dim, Scratch& scratch) const;

  const Kernels& kernels_;
  Linear head_;

 private:
  std::size_t n_mels_, subsampling_, streams_together_;
  mutable std::mutex scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> free_scratch_;
};

}  // namespace streamasr::acoustic
