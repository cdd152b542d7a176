// Score words with an n-gram language model, as pyctcdecode's LanguageModel does. The scores of the model
// behind `NgramModel` are cached, and its words are kept in a trie. One object serves all sessions from any
// thread: only the caches change; a mutex guards them, and their size is bounded.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "lru_cache.hpp"
#include "trie.hpp"

namespace streamasr {

// The history on which an n-gram model's next score depends. Equal histories may be different objects.
class LmState {
 public:
  virtual ~LmState() = default;

 private:
  friend class LmStateRef;
  std::atomic<std::uint32_t> refs_{0};
};

// A thread-safe shared pointer to an LmState, the size of one pointer.
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

// The n-gram model itself. Queries are slow; any thread may make them.
class NgramModel {
 public:
  struct Score {
    double log10_prob = 0.0;
    LmStateRef next_state;
  };

  virtual ~NgramModel() = default;
  virtual Score score(const LmState& state, const std::string& word) = 0;
  virtual bool contains(const std::string& word) = 0;
};

struct LmWeights {
  double alpha;
  double beta;
  double unk_score_offset;  // log10
};

using LazyText = std::function<std::string()>;  // spells a word; called only when the n-gram model is queried

class LanguageModel {
 public:
  // The lexicon node at which the word ends, or one of the constants below.
  using WordId = std::uint32_t;
  static constexpr WordId kOutOfVocabulary =
      UINT32_MAX;  // in neither the lexicon nor the model: one id for all
  static constexpr WordId kNotInLexicon =
      UINT32_MAX - 1;  // in the model only; rare, so its scores are not cached
  static constexpr WordId kSentenceEnd = UINT32_MAX - 2;
  static constexpr WordId kUnresolved = UINT32_MAX - 3;  // not looked up yet; never returned by `word_id`

  LanguageModel(std::shared_ptr<NgramModel> model, Trie lexicon, LmStateRef start, int order,
                std::size_t cache_entries)
      : lexicon(std::move(lexicon)),
        start(std::move(start)),
        order(order),
        model_(std::move(model)),
        scores_(cache_entries),
        out_of_vocabulary_(cache_entries) {}

  // The id of the word whose letters lead to `lexicon_node` (kNone if they leave the lexicon).
  WordId word_id(std::uint32_t lexicon_node, const LazyText& spell) {
    if (lexicon.is_final(lexicon_node)) return lexicon_node;
    std::string text = spell();
    {
      const std::lock_guard lock(mutex_);
      if (const bool* oov = out_of_vocabulary_.find(text)) return *oov ? kOutOfVocabulary : kNotInLexicon;
    }
    const bool oov = !model_->contains(text);
    const std::lock_guard lock(mutex_);
    out_of_vocabulary_.insert(std::move(text), oov);
    return oov ? kOutOfVocabulary : kNotInLexicon;
  }

  // log10 p(word | state) and the state after the word, from the cache where possible.
  NgramModel::Score ngram_score(const LmStateRef& state, WordId word, const LazyText& spell) {
    if (word == kNotInLexicon) return model_->score(*state.get(), spell());
    const Key key{state, word};
    {
      const std::lock_guard lock(mutex_);
      if (const NgramModel::Score* cached = scores_.find(key)) return *cached;
    }
    const NgramModel::Score score = model_->score(*state.get(), spell());
    std::optional<std::pair<Key, NgramModel::Score>> evicted;  // destroyed after the mutex is unlocked
    const std::lock_guard lock(mutex_);
    evicted = scores_.insert(key, score);
    return score;
  }

  // The weighted score of a whole word (natural log) and the state after it.
  std::pair<double, LmStateRef> score(const LmWeights& weights, const LmStateRef& state, WordId word,
                                      const LazyText& spell) {
    NgramModel::Score score = ngram_score(state, word, spell);
    const bool in_lexicon = word < kSentenceEnd || (lexicon.empty() && word == kNotInLexicon);
    const double log10_prob = score.log10_prob + (in_lexicon ? 0.0 : weights.unk_score_offset);
    return {weights.alpha * log10_prob * kNaturalPerLog10 + weights.beta, std::move(score.next_state)};
  }

  // The weighted score of the end of the sentence after `state`. It is no word, so beta is not added.
  double score_end(const LmWeights& weights, const LmStateRef& state) {
    const NgramModel::Score score = ngram_score(state, kSentenceEnd, [] { return std::string("</s>"); });
    return weights.alpha * kNaturalPerLog10 * score.log10_prob;
  }

  // The score of the first `num_letters` letters of a word: 0 while they are a prefix in the lexicon, else a
  // penalty that grows with their number.
  double score_partial(const LmWeights& weights, std::uint32_t lexicon_node,
                       std::uint32_t num_letters) const {
    if (lexicon_node != Trie::kNone) return 0.0;
    const double penalty = weights.unk_score_offset;
    return num_letters > kAverageLetters ? penalty * num_letters / kAverageLetters : penalty;
  }

  std::size_t cached_entries() {
    const std::lock_guard lock(mutex_);
    return scores_.size() + out_of_vocabulary_.size();
  }

  const Trie lexicon;
  const LmStateRef start;
  const int order;

 private:
  static constexpr double kNaturalPerLog10 = 2.302585092994046;
  static constexpr std::uint32_t kAverageLetters = 6;  // pyctcdecode's AVG_TOKEN_LEN

  struct Key {
    LmStateRef state;
    WordId word;
    bool operator==(const Key& other) const { return state.get() == other.state.get() && word == other.word; }
  };
  struct KeyHash {
    std::size_t operator()(const Key& key) const {
      const auto state = reinterpret_cast<std::uintptr_t>(key.state.get());
      return (state >> 4) * 0x9E3779B97F4A7C15u ^ key.word * 0xC2B2AE3D27D4EB4Fu;
    }
  };

  std::shared_ptr<NgramModel> model_;
  std::mutex mutex_;
  LruCache<Key, NgramModel::Score, KeyHash> scores_;
  LruCache<std::string, bool> out_of_vocabulary_;
};

}  // namespace streamasr
