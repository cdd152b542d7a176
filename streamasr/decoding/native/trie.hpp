// An immutable trie over code points in eight bytes per node. The children of a node are adjacent, so a node
// stores only where they begin.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace streamasr {

class Trie {
 public:
  static constexpr std::uint32_t kRoot = 0;
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Numbers the nodes breadth first, in the order of the sorted words.
  explicit Trie(std::vector<std::u32string> words) {
    std::sort(words.begin(), words.end());
    words.erase(std::unique(words.begin(), words.end()), words.end());
    struct Range {
      std::uint32_t first, last, depth;
    };
    std::vector<Range> ranges{{0, static_cast<std::uint32_t>(words.size()), 0}};
    labels_.push_back(0);
    for (std::size_t node = 0; node < ranges.size(); ++node) {
      auto [at, last, depth] = ranges[node];
      first_child_.push_back(static_cast<std::uint32_t>(ranges.size()));
      if (at < last && words[at].size() == depth) {
        labels_[node] |= kFinal;
        ++at;
      }
      while (at < last) {
        const char32_t label = words[at][depth];
        std::uint32_t end = at;
        while (end < last && words[end][depth] == label) ++end;
        ranges.push_back({at, end, depth + 1});
        labels_.push_back(label);
        at = end;
      }
    }
    first_child_.push_back(static_cast<std::uint32_t>(ranges.size()));
    labels_.shrink_to_fit();
    first_child_.shrink_to_fit();
  }

  // The child by `label`; kNone if there is none or if `node` is kNone.
  std::uint32_t child(std::uint32_t node, char32_t label) const {
    if (node == kNone) return kNone;
    const auto begin = labels_.begin() + first_child_[node];
    const auto end = labels_.begin() + first_child_[node + 1];
    const auto found = std::lower_bound(
        begin, end, label, [](std::uint32_t entry, char32_t wanted) { return (entry & ~kFinal) < wanted; });
    if (found == end || (*found & ~kFinal) != label) return kNone;
    return static_cast<std::uint32_t>(found - labels_.begin());
  }

  // The node that `letters` lead to from `node`, or kNone.
  std::uint32_t walk(std::uint32_t node, std::u32string_view letters) const {
    for (const char32_t letter : letters) node = child(node, letter);
    return node;
  }

  // Whether a word ends at `node`.
  bool is_final(std::uint32_t node) const { return node != kNone && (labels_[node] & kFinal) != 0; }

  bool empty() const { return labels_.size() == 1; }

  std::size_t size() const { return labels_.size(); }

  std::size_t bytes() const { return (labels_.size() + first_child_.size()) * sizeof(std::uint32_t); }

 private:
  static constexpr std::uint32_t kFinal = 1u << 31;  // a flag above the 21 bits of a code point

  std::vector<std::uint32_t> labels_;
  std::vector<std::uint32_t> first_child_;  // per node, and one past the last
};

}  // namespace streamasr
