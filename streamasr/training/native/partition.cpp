#include "partition.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

namespace streamasr::training {
namespace {

constexpr std::size_t kLanes = 8;  // floats of a vector; rows are whole vectors

inline void add_scaled(float* __restrict sums, const float* __restrict row, float factor,
                       std::size_t stride) {
  for (std::size_t i = 0; i < stride; ++i) sums[i] += factor * row[i];
}

inline float dot(const float* __restrict a, const float* __restrict b, std::size_t stride) {
  float lanes[kLanes] = {};
  for (std::size_t i = 0; i < stride; i += kLanes) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// The paths that have spelled a history: the shares of those that ended in its last token, and in a blank.
struct Node {
  std::uint32_t last;
  float token, blank;
};

// The nodes of a frame whose histories differ in the last token alone. `prefix` is the number of the tokens
// before it.
struct Group {
  std::size_t prefix, begin, end;
};

class Lattice {
 public:
  Lattice(const NGram& ngram, float prune) : ngram_(ngram), prune_(prune), stride_(ngram.stride()) {
    for (std::size_t i = 2; i < ngram.order(); ++i) prefixes_ *= ngram.tokens();
    for (auto* rows : {&token_, &blank_, &next_token_, &next_blank_}) rows->resize(prefixes_ * stride_);
    seen_.resize(prefixes_);
    std::size_t start = 0;
    for (std::size_t i = 2; i < ngram.order(); ++i) start = start * ngram.tokens() + ngram.blank();
    nodes_.push_back({static_cast<std::uint32_t>(ngram.blank()), 0.0f, 1.0f});
    groups_.push_back({start, 0, 1});
    ends_ = {0, 1};
  }

  // Extends all paths by a frame with a row of probabilities. Returns false if no path is left.
  bool extend(const float* probs) {
    const std::size_t stride = stride_;
    for (std::size_t g = ends_[ends_.size() - 2]; g < ends_.back(); ++g) {
      const Group group = groups_[g];
      const Children children = children_of(group);
      float *own_token = &next_token_[group.prefix * stride],
            *own_blank = &next_blank_[group.prefix * stride];
      mark(group.prefix);
      for (std::size_t i = group.begin; i < group.end; ++i) {
        const Node node = nodes_[i];
        const float* weights = children.weights + node.last * stride;
        const std::size_t prefix = children.prefix + node.last * children.step;
        float* next = &next_token_[prefix * stride];
        const float sum = node.token + node.blank;
        add_scaled(next, weights, sum, stride);
        // Without a blank between them, two equal tokens are one.
        next[node.last] -= node.token * weights[node.last];
        mark(prefix);
        own_token[node.last] += node.token;
        own_blank[node.last] = sum * probs[ngram_.blank()];
      }
    }
    return keep(probs);
  }

  double log_sum() const { return log_sum_; }

  // Computes the occupancies of the frames from the last to the first. `probs` has a row for each frame;
  // `occupancies` is [frames, tokens].
  void occupancies(const float* probs, float* occupancies) {
    const std::size_t frames = ends_.size() - 2, stride = stride_, blank_id = ngram_.blank();
    // Probabilities of the rest of the row, after a path that ends in a token or in a blank.
    auto &token = token_, &blank = blank_, &token_before = next_token_, &blank_before = next_blank_;
    for (std::size_t g = ends_[frames]; g < ends_[frames + 1]; ++g) {
      const Group group = groups_[g];
      for (std::size_t i = group.begin; i < group.end; ++i) {
        const std::size_t at = group.prefix * stride + nodes_[i].last;
        token[at] = blank[at] = 1.0f;
      }
    }
    for (std::size_t frame = frames; frame-- > 0;) {
      const float* p = probs + frame * stride;
      float* occupancy = occupancies + frame * ngram_.tokens();
      for (std::size_t g = ends_[frame + 1]; g < ends_[frame + 2]; ++g) {
        const Group group = groups_[g];
        float* rest = &token[group.prefix * stride];
        for (std::size_t i = group.begin; i < group.end; ++i) {
          const Node& node = nodes_[i];
          occupancy[blank_id] += node.blank * blank[group.prefix * stride + node.last];
          occupancy[node.last] += node.token * rest[node.last];
        }
        // All histories of the frame before need these products.
        for (std::size_t i = 0; i < stride; ++i) rest[i] *= p[i];
      }
      const float scale = 1.0f / scales_[frame];
      for (std::size_t g = ends_[frame]; g < ends_[frame + 1]; ++g) {
        const Group group = groups_[g];
        const Children children = children_of(group);
        for (std::size_t i = group.begin; i < group.end; ++i) {
          const std::size_t last = nodes_[i].last, at = group.prefix * stride + last;
          const float* weights = children.weights + last * stride;
          const float* child = &token[(children.prefix + last * children.step) * stride];
          const float rest = p[blank_id] * blank[at] + dot(weights, child, stride);
          const float repeated = token[at] - weights[last] * child[last];
          blank_before[at] = rest * scale;
          token_before[at] = (rest + repeated) * scale;
        }
      }
      for (std::size_t g = ends_[frame + 1]; g < ends_[frame + 2]; ++g)
        clear(token, blank, groups_[g].prefix);
      std::swap(token, token_before);
      std::swap(blank, blank_before);
    }
  }

 private:
  // Where a group's histories lead to: the weights of the tokens after its first history, and the prefix of
  // the histories that they make. Those of the next history are a row and `step` further on.
  struct Children {
    const float* weights;
    std::size_t prefix, step;
  };

  Children children_of(const Group& group) const {
    const float* weights = ngram_.row(group.prefix * ngram_.tokens());
    if (ngram_.order() == 2) return {weights, 0, 0};
    return {weights, group.prefix * ngram_.tokens() % prefixes_, 1};
  }

  void mark(std::size_t prefix) {
    if (seen_[prefix]) return;
    seen_[prefix] = 1;
    prefixes_seen_.push_back(prefix);
  }

  void clear(std::vector<float>& token, std::vector<float>& blank, std::size_t prefix) const {
    std::fill_n(&token[prefix * stride_], stride_, 0.0f);
    std::fill_n(&blank[prefix * stride_], stride_, 0.0f);
  }

  // Keeps the probable histories of the new frame, and scales their shares to a sum of 1.
  bool keep(const float* probs) {
    const std::size_t stride = stride_;
    best_.clear();
    float best = 0.0f;
    for (const std::size_t prefix : prefixes_seen_) {
      float* __restrict token = &next_token_[prefix * stride];
      const float* __restrict blank = &next_blank_[prefix * stride];
      float lanes[kLanes] = {};
      for (std::size_t i = 0; i < stride; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) {
          const float share = token[i + lane] * probs[i + lane], both = share + blank[i + lane];
          token[i + lane] = share;
          lanes[lane] = lanes[lane] < both ? both : lanes[lane];
        }
      }
      best_.push_back(*std::max_element(lanes, lanes + kLanes));
      best = std::max(best, best_.back());
    }
    const float least = std::max(prune_ * best, std::numeric_limits<float>::min());
    double sum = 0.0;
    for (std::size_t seen = 0; seen < prefixes_seen_.size(); ++seen) {
      const std::size_t prefix = prefixes_seen_[seen], begin = nodes_.size();
      seen_[prefix] = 0;
      if (best_[seen] >= least) {
        const float *token = &next_token_[prefix * stride], *blank = &next_blank_[prefix * stride];
        // Written for each token, but kept only for probable ones: branches would be mispredicted.
        nodes_.resize(begin + ngram_.tokens());
        Node* node = &nodes_[begin];
        for (std::size_t last = 0; last < ngram_.tokens(); ++last) {
          *node = {static_cast<std::uint32_t>(last), token[last], blank[last]};
          node += token[last] + blank[last] >= least;
        }
        nodes_.resize(static_cast<std::size_t>(node - nodes_.data()));
        float of_group = 0.0f;
        for (std::size_t i = begin; i < nodes_.size(); ++i) of_group += nodes_[i].token + nodes_[i].blank;
        sum += of_group;
        groups_.push_back({prefix, begin, nodes_.size()});
      }
      clear(next_token_, next_blank_, prefix);
    }
    prefixes_seen_.clear();
    if (!(sum > 0.0) || !std::isfinite(sum)) return false;
    const float scale = static_cast<float>(1.0 / sum);
    for (std::size_t i = groups_[ends_.back()].begin; i < nodes_.size(); ++i) {
      nodes_[i].token *= scale;
      nodes_[i].blank *= scale;
    }
    scales_.push_back(static_cast<float>(sum));
    log_sum_ += std::log(sum);
    ends_.push_back(groups_.size());
    return true;
  }

  const NGram& ngram_;
  const float prune_;
  const std::size_t stride_;
  std::size_t prefixes_ = 1;
  std::vector<Node> nodes_;
  std::vector<Group> groups_;
  std::vector<std::size_t> ends_;  // of the groups of each frame
  std::vector<float> scales_;
  // Values by history: a row for each prefix.
  std::vector<float> token_, blank_, next_token_, next_blank_;
  std::vector<std::uint8_t> seen_;
  std::vector<std::size_t> prefixes_seen_;
  std::vector<float> best_;  // share of each prefix seen
  double log_sum_ = 0.0;
};

}  // namespace

NGram::NGram(const float* weights, std::size_t order, std::size_t tokens, std::size_t blank)
    : order_(order), tokens_(tokens), blank_(blank), stride_((tokens + kLanes - 1) / kLanes * kLanes) {
  std::size_t histories = 1;
  for (std::size_t i = 1; i < order; ++i) histories *= tokens;
  weights_.resize(histories * stride_);
  for (std::size_t i = 0; i < histories; ++i) {
    std::copy_n(weights + i * tokens, tokens, weights_.data() + i * stride_);
  }
}

double log_partition(const float* log_probs, std::size_t frames, const NGram& ngram, float prune,
                     float* occupancies) {
  const std::size_t tokens = ngram.tokens(), stride = ngram.stride();
  std::vector<float> probs(frames * stride);
  for (std::size_t frame = 0; frame < frames; ++frame) {
    std::transform(log_probs + frame * tokens, log_probs + (frame + 1) * tokens,
                   probs.data() + frame * stride, [](float x) { return std::exp(x); });
  }
  std::fill_n(occupancies, frames * tokens, 0.0f);
  Lattice lattice(ngram, prune);
  for (std::size_t frame = 0; frame < frames; ++frame) {
    if (!lattice.extend(probs.data() + frame * stride)) return std::numeric_limits<double>::quiet_NaN();
  }
  lattice.occupancies(probs.data(), occupancies);
  return lattice.log_sum();
}

}  // namespace streamasr::training
