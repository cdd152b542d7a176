// A map of bounded size that evicts the least recently used entry. Not thread-safe.
#pragma once

#include <cstddef>
#include <list>
#include <optional>
#include <unordered_map>
#include <utility>

namespace streamasr {

template <class Key, class Value, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
class LruCache {
 public:
  using Entry = std::pair<Key, Value>;

  explicit LruCache(std::size_t capacity) : capacity_(capacity) {}

  template <class Lookup>
  const Value* find(const Lookup& key) {
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->second;
  }

  // Returns the evicted or replaced entry, if any. Destroying it may be slow, so the caller decides when.
  std::optional<Entry> insert(Key key, Value value) {
    if (const auto found = index_.find(key); found != index_.end()) {
      std::swap(found->second->second, value);
      return Entry{std::move(key), std::move(value)};
    }
    entries_.emplace_front(std::move(key), std::move(value));
    index_.emplace(entries_.front().first, entries_.begin());
    if (entries_.size() <= capacity_) return std::nullopt;
    index_.erase(entries_.back().first);
    std::optional<Entry> evicted{std::move(entries_.back())};
    entries_.pop_back();
    return evicted;
  }

  std::size_t size() const { return entries_.size(); }

 private:
  std::size_t capacity_;
  std::list<Entry> entries_;  // most recently used first
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash, Equal> index_;
};

}  // namespace streamasr
