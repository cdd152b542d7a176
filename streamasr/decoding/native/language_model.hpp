// What a word is worth after others: an n-gram model asked through `Ngrams`, its answers cached, its words
// in a trie. Serves every session from any thread; only the caches change, and they are bounded.
// Weighs as pyctcdecode's LanguageModel does. Knows no beams.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "lru_cache.hpp"
#include "trie.hpp"

namespace streamasr {

// The words that still matter to an n-gram model. Two equal ones need not be one object.
class LmState {
 public:
  virtual ~LmState() = default;

 private:
  friend class LmStateRef;
  std::atomic<std::uint32_t> refs_{0};
};

// Shared ownership of an LmState in one word of memory, from any thread.
class LmStateRef {
 public:
  LmStateRef() = default;
  explicit LmStateRef(LmState* state) : state_(state) {
    if (state_) state_->refs_.fetch_add(1, std::memory_order_relaxed);
  }
  LmStateRef(const LmStateRef& other) : LmStateRef(other.state_) {}
  LmStateRef(LmStateRef&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
  LmStateRef& operator=(LmStateRef other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~LmStateRef() {
    if (state_ && state_->refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete state_;
  }
  LmState* get() const { return state_; }

 private:
  LmState* state_ = nullptr;
};

// The n-gram model itself. Slow to ask; may be asked from any thread.
class Ngrams {
 public:
  struct Answer {
    double log10_prob = 0.0;
    LmStateRef next;
  };

  virtual ~Ngrams() = default;
  virtual Answer ask(const LmState& state, const std::string& word) = 0;
  virtual bool knows(const std::string& word) = 0;
};

struct LmWeights {
  double alpha;
  double beta;
  double unk_score_offset;
};

using Spell = std::function<std::string()>;  // writes a word out; called only when the model must be asked

class LanguageModel {
 public:
  using Word = std::uint32_t;
  static constexpr Word kStranger = UINT32_MAX;  // neither listed nor in the model: all such words are one
  static constexpr Word kUnlisted = UINT32_MAX - 1;  // in the model, but not in the list; rare, not cached
  static constexpr Word kSentenceEnd = UINT32_MAX - 2;
  static constexpr Word kUnasked = UINT32_MAX - 3;  // no word; for those who remember what `word` said

  LanguageModel(std::shared_ptr<Ngrams> ngrams, Trie lexicon, LmStateRef start, int order,
                std::size_t cache_entries)
      : lexicon(std::move(lexicon)),
        start(std::move(start)),
        order(order),
        ngrams_(std::move(ngrams)),
        scores_(cache_entries),
        strangers_(cache_entries) {}

  // The word that the letters up to node `listed` of the lexicon (kNone where they have left it) spell.
  Word word(std::uint32_t listed, const Spell& spell) {
    if (lexicon.ends(listed)) return listed;
    std::string text = spell();
    {
      const std::lock_guard lock(mutex_);
      if (const bool* stranger = strangers_.find(text)) return *stranger ? kStranger : kUnlisted;
    }
    const bool stranger = !ngrams_->knows(text);
    const std::lock_guard lock(mutex_);
    strangers_.insert(std::move(text), stranger);
    return stranger ? kStranger : kUnlisted;
  }

  // log10 p(word | state), and the state after it.
  Ngrams::Answer ask(const LmStateRef& state, Word word, const Spell& spell) {
    if (word == kUnlisted) return ngrams_->ask(*state.get(), spell());
    const Key key{state, word};
    {
      const std::lock_guard lock(mutex_);
      if (const Ngrams::Answer* known = scores_.find(key)) return *known;
    }
    const Ngrams::Answer answer = ngrams_->ask(*state.get(), spell());
    std::optional<std::pair<Key, Ngrams::Answer>> oldest;
    const std::lock_guard lock(mutex_);
    oldest = scores_.insert(key, answer);
    return answer;
  }

  // The worth of a whole word (natural log), and the state after it.
  std::pair<double, LmStateRef> score(const LmWeights& weights, const LmStateRef& state, Word word,
                                      const Spell& spell) {
    Ngrams::Answer answer = ask(state, word, spell);
    const bool listed = word < kSentenceEnd || (lexicon.empty() && word == kUnlisted);
    const double log10_prob = answer.log10_prob + (listed ? 0.0 : weights.unk_score_offset);
    return {weights.alpha * log10_prob * kNaturalPerLog10 + weights.beta, std::move(answer.next)};
  }

  // The worth of the sentence ending after `state`; no word, so no beta.
  double score_end(const LmWeights& weights, const LmStateRef& state) {
    const Ngrams::Answer answer = ask(state, kSentenceEnd, [] { return std::string("</s>"); });
    return weights.alpha * kNaturalPerLog10 * answer.log10_prob;
  }

  // 0 while a listed word begins so (`listed` is a node of the lexicon), else a penalty that grows with length.
  double score_partial(const LmWeights& weights, std::uint32_t listed, std::uint32_t letters) const {
    if (listed != Trie::kNone) return 0.0;
    const double penalty = weights.unk_score_offset;
    return letters > kUsualLetters ? penalty * letters / kUsualLetters : penalty;
  }

  std::size_t cached_entries() {
    const std::lock_guard lock(mutex_);
    return scores_.size() + strangers_.size();
  }

  const Trie lexicon;
  const LmStateRef start;
  const int order;

 private:
  static constexpr double kNaturalPerLog10 = 2.302585092994046;
  static constexpr std::uint32_t kUsualLetters = 6;

  struct Key {
    LmStateRef state;
    Word word;
    bool operator==(const Key& other) const { return state.get() == other.state.get() && word == other.word; }
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      const auto state = reinterpret_cast<std::uintptr_t>(key.state.get());
      return (state >> 4) * 0x9E3779B97F4A7C15u ^ key.word * 0xC2B2AE3D27D4EB4Fu;
    }
  };

  std::shared_ptr<Ngrams> ngrams_;
  std::mutex mutex_;
  LruCache<Key, Ngrams::Answer, KeyHash> scores_;
  LruCache<std::string, bool> strangers_;
};

}  // namespace streamasr
