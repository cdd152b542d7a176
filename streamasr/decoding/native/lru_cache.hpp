// A map of bounded size that forgets what was not asked for the longest. Not synchronised.
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

  explicit LruCache(std::size_t limit) : limit_(limit) {}

  template <class Wanted>
  const Value* find(const Wanted& key) {
    const auto found = places_.find(key);
    if (found == places_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->second;
  }

  // Returns the entry that had to go, if one had; it may be costly to destroy, so the caller says when.
  std::optional<Entry> insert(Key key, Value value) {
    if (const auto found = places_.find(key); found != places_.end()) {
      std::swap(found->second->second, value);
      return Entry{std::move(key), std::move(value)};
    }
    entries_.emplace_front(std::move(key), std::move(value));
    places_.emplace(entries_.front().first, entries_.begin());
    if (entries_.size() <= limit_) return std::nullopt;
    places_.erase(entries_.back().first);
    std::optional<Entry> oldest{std::move(entries_.back())};
    entries_.pop_back();
    return oldest;
  }

  std::size_t size() const { return entries_.size(); }

 private:
  std::size_t limit_;
  std::list<Entry> entries_;
  std::unordered_map<Key, typename std::list<Entry>::iterator, Hash, Equal> places_;
};

}  // namespace streamasr
