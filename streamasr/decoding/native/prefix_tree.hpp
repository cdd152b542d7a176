// Nodes that share what came before them, counted and recycled. A pool is a value: copying it copies every
// node, and what a node refers to keeps its number in the copy.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace streamasr {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = UINT32_MAX;

struct Node {
  NodeId before = kNoNode;
  std::uint32_t holds = 0;  // of beams, of other pools' nodes, and of the nodes that come after
};

// Linked lists that grow at one end and share the rest: each node holds the one before it.
template <class T>
class Pool {
 public:
  const T& operator[](NodeId id) const { return nodes_[id]; }
  T& operator[](NodeId id) { return nodes_[id]; }

  // A new node after `node.before`, held by nobody yet.
  NodeId add(T node) {
    if (node.before != kNoNode) ++nodes_[node.before].holds;
    ++size_;
    if (free_ == kNoNode) {
      nodes_.push_back(std::move(node));
      return static_cast<NodeId>(nodes_.size() - 1);
    }
    const NodeId id = free_;
    free_ = nodes_[id].before;
    nodes_[id] = std::move(node);
    return id;
  }

  void hold(NodeId id) {
    if (id != kNoNode) ++nodes_[id].holds;
  }

  // Lets go of a node; it goes if nobody else holds it, and so do those before it. `gone` is told of each.
  template <class Gone>
  void drop(NodeId id, Gone&& gone) {
    while (id != kNoNode && --nodes_[id].holds == 0) {
      gone(id, nodes_[id]);
      const NodeId before = nodes_[id].before;
      nodes_[id] = T{};
      nodes_[id].before = free_;
      free_ = id;
      --size_;
      id = before;
    }
  }

  void drop(NodeId id) {
    drop(id, [](NodeId, const T&) {});
  }

  // Nodes that are held.
  std::size_t size() const { return size_; }

  std::size_t bytes() const { return nodes_.capacity() * sizeof(T); }

  void shrink_to_fit() { nodes_.shrink_to_fit(); }

 protected:
  std::vector<T> nodes_;
  NodeId free_ = kNoNode;
  std::size_t size_ = 0;
};

struct TreeNode : Node {
  NodeId first_child = kNoNode;
  NodeId next_sibling = kNoNode;
  std::uint32_t edge = 0;  // what leads here from the node before
};

// A pool in which no node has two children by one edge, so that equal sequences are one node as long as
// anybody holds it. Node 0 is the root and stays.
template <class T>
class PrefixTree : public Pool<T> {
 public:
  static constexpr NodeId kRoot = 0;

  explicit PrefixTree(T root) {
    root.holds = 1;
    this->add(std::move(root));
  }

  NodeId child(NodeId parent, std::uint32_t edge) const {
    NodeId id = this->nodes_[parent].first_child;
    while (id != kNoNode && this->nodes_[id].edge != edge) id = this->nodes_[id].next_sibling;
    return id;
  }

  // A new child; `node` says by which edge.
  NodeId add_child(NodeId parent, T node) {
    node.before = parent;
    node.next_sibling = this->nodes_[parent].first_child;
    const NodeId id = this->add(std::move(node));
    this->nodes_[parent].first_child = id;
    return id;
  }

  template <class Gone>
  void drop(NodeId id, Gone&& gone) {
    Pool<T>::drop(id, [&](NodeId going, const T& node) {
      gone(going, node);
      NodeId* link = &this->nodes_[node.before].first_child;
      while (*link != going) link = &this->nodes_[*link].next_sibling;
      *link = node.next_sibling;
    });
  }

  void drop(NodeId id) {
    drop(id, [](NodeId, const T&) {});
  }
};

}  // namespace streamasr
