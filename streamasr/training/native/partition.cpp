#include "partition.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

namespace streamasr::training {
namespace {

// The paths that have spelled a history: the shares of those that ended in its last token, and in a blank.
struct Node {
  std::uint32_t history;
  float token, blank;
};

class Lattice {
 public:
  Lattice(const NGram& ngram, float prune)
      : ngram_(ngram), prune_(prune), tokens_(ngram.tokens), suffixes_(1) {
    for (std::size_t i = 2; i < ngram.order; ++i) suffixes_ *= tokens_;
    const std::size_t histories = suffixes_ * tokens_;
    token_.resize(histories);
    blank_.resize(histories);
    next_token_.resize(histories);
    next_blank_.resize(histories);
    seen_.resize(suffixes_);
    std::size_t start = 0;
    for (std::size_t i = 1; i < ngram.order; ++i) start = start * tokens_ + ngram.blank;
    nodes_.push_back({static_cast<std::uint32_t>(start), 0.0f, 1.0f});
    ends_ = {0, 1};
  }

  // Extends all paths by a frame with these probabilities. Returns false if no path is left.
  bool extend(const float* probs) {
    const auto [begin, end] = nodes_of(ends_.size() - 2);
    for (std::size_t i = begin; i < end; ++i) {
      const Node& node = nodes_[i];
      const float* weights = weights_of(node);
      float* next = &next_token_[first_child(node)];
      const float sum = node.token + node.blank;
      for (std::size_t token = 0; token < tokens_; ++token) next[token] += sum * weights[token];
      // Without a blank between them, two equal tokens are one.
      next[last_token(node)] -= node.token * weights[last_token(node)];
      mark(node.history % suffixes_);
      next_token_[node.history] += node.token;
      next_blank_[node.history] = sum * probs[ngram_.blank];
      mark(node.history / tokens_);
    }
    return keep(probs);
  }

  double log_sum() const { return log_sum_; }

  // Computes the occupancies of the frames from the last to the first; `probs` and `occupancies` are
  // [frames, tokens].
  void occupancies(const float* probs, float* occupancies) {
    const std::size_t frames = ends_.size() - 2;
    // Probabilities of the rest of the row, after a path that ends in a token or in a blank.
    auto &token = token_, &blank = blank_, &token_before = next_token_, &blank_before = next_blank_;
    const auto [begin, end] = nodes_of(frames);
    for (std::size_t i = begin; i < end; ++i) token[nodes_[i].history] = blank[nodes_[i].history] = 1.0f;
    for (std::size_t frame = frames; frame-- > 0;) {
      const float* p = probs + frame * tokens_;
      float* occupancy = occupancies + frame * tokens_;
      const auto [after, after_end] = nodes_of(frame + 1);
      for (std::size_t i = after; i < after_end; ++i) {
        const Node& node = nodes_[i];
        occupancy[ngram_.blank] += node.blank * blank[node.history];
        occupancy[last_token(node)] += node.token * token[node.history];
      }
      const auto [before, before_end] = nodes_of(frame);
      for (std::size_t i = before; i < before_end; ++i) {
        const Node& node = nodes_[i];
        const float* weights = weights_of(node);
        const float* child = &token[first_child(node)];
        float rest = p[ngram_.blank] * blank[node.history];
        for (std::size_t t = 0; t < tokens_; ++t) rest += weights[t] * child[t] * p[t];
        const std::size_t last = last_token(node);
        const float repeated = (token[node.history] - weights[last] * child[last]) * p[last];
        blank_before[node.history] = rest / scales_[frame];
        token_before[node.history] = (rest + repeated) / scales_[frame];
      }
      for (std::size_t i = after; i < after_end; ++i) {
        token[nodes_[i].history] = blank[nodes_[i].history] = 0.0f;
      }
      std::swap(token, token_before);
      std::swap(blank, blank_before);
    }
  }

 private:
  const float* weights_of(const Node& node) const { return ngram_.weights + node.history * tokens_; }
  std::size_t first_child(const Node& node) const { return node.history % suffixes_ * tokens_; }
  std::size_t last_token(const Node& node) const { return node.history % tokens_; }
  std::pair<std::size_t, std::size_t> nodes_of(std::size_t frame) const {
    return {ends_[frame], ends_[frame + 1]};
  }

  void mark(std::size_t group) {
    if (seen_[group]) return;
    seen_[group] = 1;
    groups_.push_back(group);
  }

  // Keeps the probable histories of the new frame, and scales their shares to a sum of 1.
  bool keep(const float* probs) {
    float best = 0.0f;
    for (const std::size_t group : groups_) {
      for (std::size_t token = 0; token < tokens_; ++token) {
        float& share = next_token_[group * tokens_ + token];
        share *= probs[token];
        best = std::max(best, share + next_blank_[group * tokens_ + token]);
      }
    }
    const std::size_t begin = nodes_.size();
    double sum = 0.0;
    for (const std::size_t group : groups_) {
      for (std::size_t history = group * tokens_; history < (group + 1) * tokens_; ++history) {
        const float token = std::exchange(next_token_[history], 0.0f);
        const float blank = std::exchange(next_blank_[history], 0.0f);
        if (token + blank > 0.0f && token + blank >= prune_ * best) {
          nodes_.push_back({static_cast<std::uint32_t>(history), token, blank});
          sum += token + blank;
        }
      }
      seen_[group] = 0;
    }
    groups_.clear();
    if (!(sum > 0.0) || !std::isfinite(sum)) return false;
    const float scale = static_cast<float>(sum);
    for (std::size_t i = begin; i < nodes_.size(); ++i) {
      nodes_[i].token /= scale;
      nodes_[i].blank /= scale;
    }
    scales_.push_back(scale);
    log_sum_ += std::log(sum);
    ends_.push_back(nodes_.size());
    return true;
  }

  const NGram& ngram_;
  const float prune_;
  const std::size_t tokens_;
  std::size_t suffixes_;  // histories without their first token
  std::vector<Node> nodes_;
  std::vector<std::size_t> ends_;
  std::vector<float> scales_;
  std::vector<float> token_, blank_, next_token_, next_blank_;  // by history
  std::vector<std::uint8_t> seen_;
  std::vector<std::size_t> groups_;  // of histories that differ in their last token
  double log_sum_ = 0.0;
};

}  // namespace

double log_partition(const float* log_probs, std::size_t frames, const NGram& ngram, float prune,
                     float* occupancies) {
  std::vector<float> probs(frames * ngram.tokens);
  std::transform(log_probs, log_probs + probs.size(), probs.begin(), [](float x) { return std::exp(x); });
  std::fill_n(occupancies, probs.size(), 0.0f);
  Lattice lattice(ngram, prune);
  for (std::size_t frame = 0; frame < frames; ++frame) {
    if (!lattice.extend(probs.data() + frame * ngram.tokens)) return std::numeric_limits<double>::quiet_NaN();
  }
  lattice.occupancies(probs.data(), occupancies);
  return lattice.log_sum();
}

}  // namespace streamasr::training
