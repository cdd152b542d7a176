// The partition function of CTC-CRF (Xiang and Ou 2019): the sum over all texts of the probability of their
// CTC paths times the text's n-gram weight. Its derivatives are occupancies: how probable each token is in
// each frame, given the whole row.

#pragma once

#include <cstddef>
#include <vector>

namespace streamasr::training {

// Weights of tokens after the `order - 1` tokens before them.
class NGram {
 public:
  // `weights` is [history, token]. A history's number has its tokens as digits, the last one lowest. At the
  // start of a text all of them are `blank`, whose own weights are 0.
  NGram(const float* weights, std::size_t order, std::size_t tokens, std::size_t blank);

  std::size_t order() const { return order_; }
  std::size_t tokens() const { return tokens_; }
  std::size_t blank() const { return blank_; }
  // The floats of a row: one for each token, then zeros, so that all rows are whole vectors.
  std::size_t stride() const { return stride_; }
  // The row of a history's weights.
  const float* row(std::size_t history) const { return weights_.data() + history * stride_; }

 private:
  std::size_t order_, tokens_, blank_, stride_;
  std::vector<float> weights_;
};

// Returns the natural log of the sum; NaN if it is 0 or not a number.
//
// `log_probs` and `occupancies` are [frames, tokens]. Forward-backward over pairs of a history and whether
// the last frame was a blank. Histories less probable than `prune` times the best one of the frame are
// dropped from the sum; with 0, none are. The occupancies are those of the histories that remain.
double log_partition(const float* log_probs, std::size_t frames, const NGram& ngram, float prune,
                     float* occupancies);

}  // namespace streamasr::training
