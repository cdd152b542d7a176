// Reference-counted nodes that share their ancestors, kept in arrays and addressed by number. A pool is a
// value: a copy holds a copy of every node, and node numbers stay valid in it.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace streamasr {

using NodeId = std::uint32_t;
inline constexpr NodeId kNoNode = UINT32_MAX;

struct Node {
  NodeId parent = kNoNode;
  std::uint32_t ref_count = 0;  // references from beams, from nodes of other pools and from child nodes
};

// A forest of nodes with parent links: each node keeps its parent alive, and freed nodes are reused.
template <class T>
class NodePool {
 public:
  const T& operator[](NodeId id) const { return nodes_[id]; }
  T& operator[](NodeId id) { return nodes_[id]; }

  // Adds a child of `node.parent` with a reference count of 0.
  NodeId add(T node) {
    if (node.parent != kNoNode) ++nodes_[node.parent].ref_count;
    ++size_;
    if (free_ == kNoNode) {
      nodes_.push_back(std::move(node));
      return static_cast<NodeId>(nodes_.size() - 1);
    }
    const NodeId id = free_;
    free_ = nodes_[id].parent;
    nodes_[id] = std::move(node);
    return id;
  }

  void retain(NodeId id) {
    if (id != kNoNode) ++nodes_[id].ref_count;
  }

  // Drops one reference. A node without references is freed, and so are its ancestors that nothing else
  // references; `on_free(id, node)` is called for each before it is freed.
  template <class OnFree>
  void release(NodeId id, OnFree&& on_free) {
    while (id != kNoNode && --nodes_[id].ref_count == 0) {
      on_free(id, nodes_[id]);
      const NodeId parent = nodes_[id].parent;
      nodes_[id] = T{};
      nodes_[id].parent = free_;
      free_ = id;
      --size_;
      id = parent;
    }
  }

  void release(NodeId id) {
    release(id, [](NodeId, const T&) {});
  }

  // Nodes in use.
  std::size_t size() const { return size_; }

  std::size_t bytes() const { return nodes_.capacity() * sizeof(T); }

  void shrink_to_fit() { nodes_.shrink_to_fit(); }

 protected:
  std::vector<T> nodes_;
  NodeId free_ = kNoNode;  // head of the list of free nodes, linked by `parent`
  std::size_t size_ = 0;
};

struct TreeNode : Node {
  NodeId first_child = kNoNode;
  NodeId next_sibling = kNoNode;
  std::uint32_t edge = 0;  // label of the edge from the parent
};

// A pool in which the children of a node have distinct edges, so that equal sequences are one node for as
// long as something references it. Node 0 is the root and is never freed.
template <class T>
class PrefixTree : public NodePool<T> {
 public:
  static constexpr NodeId kRoot = 0;

  explicit PrefixTree(T root) {
    root.ref_count = 1;
    this->add(std::move(root));
  }

  NodeId child(NodeId parent, std::uint32_t edge) const {
    NodeId id = this->nodes_[parent].first_child;
    while (id != kNoNode && this->nodes_[id].edge != edge) id = this->nodes_[id].next_sibling;
    return id;
  }

  // Adds a child by the edge `node.edge`, which must be new.
  NodeId add_child(NodeId parent, T node) {
    node.parent = parent;
    node.next_sibling = this->nodes_[parent].first_child;
    const NodeId id = this->add(std::move(node));
    this->nodes_[parent].first_child = id;
    return id;
  }

  template <class OnFree>
  void release(NodeId id, OnFree&& on_free) {
    NodePool<T>::release(id, [&](NodeId freed, const T& node) {
      on_free(freed, node);
      NodeId* link = &this->nodes_[node.parent].first_child;
      while (*link != freed) link = &this->nodes_[*link].next_sibling;
      *link = node.next_sibling;
    });
  }

  void release(NodeId id) {
    release(id, [](NodeId, const T&) {});
  }
};

}  // namespace streamasr
