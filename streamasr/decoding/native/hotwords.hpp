// Score the hotwords of a session: words and phrases whose scores are boosted (context biasing). Immutable.
//
// All phrases share one trie of letters, with a space between words. Of the phrases that match the end of a
// word sequence, each is a suffix of the longer ones. So one number, the node of the longest, stands for all
// of them: its suffix link leads to the next shorter one (Aho and Corasick 1975, with words as symbols).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trie.hpp"
#include "unicode.hpp"

namespace streamasr {

// The hotword score of a sequence of words, and the phrases under way at its end.
struct HotwordState {
  double completed_score = 0.0;  // of hotwords that are complete
  double pending_score = 0.0;    // of the phrase under way; lost if the phrase is not completed
  std::uint32_t phrase = 0;      // node of the longest phrase under way, 0 for none
  std::uint32_t covered_words =
      0;  // how many of the last words belong to a complete hotword; none counts twice
};

class Hotwords {
 public:
  // Pairs of text and boost; texts as the model spells them, one space between words.
  explicit Hotwords(const std::vector<std::pair<std::u32string, double>>& hotwords)
      : trie_(texts(hotwords)), letter_nodes_(trie_.size()), phrase_nodes_(1) {
    for (const auto& [text, boost] : hotwords) add(text, boost);
    add_suffix_links();
  }

  bool empty() const { return trie_.empty(); }

  std::size_t bytes() const {
    return trie_.bytes() + letter_nodes_.size() * sizeof(LetterNode) +
           phrase_nodes_.size() * sizeof(PhraseNode);
  }

  // The trie node one letter further into the first word of a hotword; kNone if no hotword begins so.
  std::uint32_t child(std::uint32_t node, char32_t letter) const { return trie_.child(node, letter); }

  // The state after one more whole word.
  //
  // Args: first_word_node, the trie node to which the word's letters lead from the root; word, its letters.
  HotwordState advance(const HotwordState& state, std::uint32_t first_word_node,
                       std::u32string_view word) const {
    std::vector<std::uint32_t>& active = active_buffer();  // phrases that match the last words
    for (std::uint32_t phrase = state.phrase; phrase != 0; phrase = phrase_nodes_[phrase].suffix_link) {
      if (const std::uint32_t next = next_phrase(phrase_nodes_[phrase].next_letters, word))
        active.push_back(next);
    }
    if (first_word_node != Trie::kNone && letter_nodes_[first_word_node].phrase != 0) {
      active.push_back(letter_nodes_[first_word_node].phrase);
    }
    if (active.empty()) return {state.completed_score, 0.0, 0, 0};
    std::reverse(active.begin(), active.end());  // the shortest first
    double added_score = 0.0;
    std::uint32_t covered = 0;
    for (const std::uint32_t id : active) {
      const PhraseNode& node = phrase_nodes_[id];
      if (!node.is_end) continue;
      const std::uint32_t new_words = node.num_words - std::min(node.num_words - 1, state.covered_words);
      if (covered == 0 || node.end_boost * new_words > added_score) {
        added_score = node.end_boost * new_words;
        covered = std::max(node.num_words, state.covered_words + 1);
      }
    }
    HotwordState next{state.completed_score + added_score, 0.0, 0, covered};
    for (const std::uint32_t id : active) {
      const PhraseNode& node = phrase_nodes_[id];
      if (!node.has_children) continue;
      const double score = node.boost * (node.num_words > covered ? node.num_words - covered : 0);
      next.pending_score = next.phrase == 0 ? score : std::max(next.pending_score, score);
      next.phrase = id;
    }
    return next;
  }

  // The score of the letters up to `node` as the beginning of a first word; NaN if no hotword begins so.
  double first_word_score(std::uint32_t node) const {
    return node == Trie::kNone ? kNoScore : letter_nodes_[node].partial_score;
  }

  // The score of `letters` as the beginning of the next word, given their score as the beginning of a first
  // word; NaN if no hotword goes on so.
  double partial_word_score(const HotwordState& state, double first_word_score,
                            std::u32string_view letters) const {
    double score = first_word_score;
    for (std::uint32_t phrase = state.phrase; phrase != 0; phrase = phrase_nodes_[phrase].suffix_link) {
      const std::uint32_t node = trie_.walk(phrase_nodes_[phrase].next_letters, letters);
      if (node != Trie::kNone && !(score >= letter_nodes_[node].partial_score)) {
        score = letter_nodes_[node].partial_score;
      }
    }
    return score;
  }

  // The score of a text, phrases under way included.
  double score(const std::string& text) const {
    const HotwordState state = state_after(code_points(text));
    return state.completed_score + state.pending_score;
  }

  // The score of `part` as the beginning of the word after a text; none if no hotword goes on so.
  std::optional<double> score_partial(const std::string& text, const std::string& part) const {
    const std::u32string letters = code_points(part);
    const double first_score = first_word_score(trie_.walk(Trie::kRoot, letters));
    const double score = partial_word_score(state_after(code_points(text)), first_score, letters);
    return std::isnan(score) ? std::nullopt : std::optional(score);
  }

 private:
  static constexpr double kNoScore = std::numeric_limits<double>::quiet_NaN();
  static constexpr char32_t kSpace = U' ';

  // What is known at a node of the letter trie.
  struct LetterNode {
    double partial_score = kNoScore;  // of the word's letters so far
    std::uint32_t phrase = 0;         // the phrase node if the word is complete here
  };
  // The first words of one or more phrases.
  struct PhraseNode {
    std::uint32_t num_words = 0;
    std::uint32_t suffix_link = 0;             // the longest other node whose words end this one's
    std::uint32_t next_letters = Trie::kNone;  // trie node at which the letters of the next word begin
    std::uint32_t parent = 0;
    double boost = 0.0;      // the highest of the phrases that end here or go on
    double end_boost = 0.0;  // the highest of the phrases that end here
    bool is_end = false;
    bool has_children = false;
    std::u32string last_word;
  };

  static std::vector<std::u32string> texts(const std::vector<std::pair<std::u32string, double>>& hotwords) {
    std::vector<std::u32string> found;
    for (const auto& [text, boost] : hotwords) found.push_back(text);
    return found;
  }

  static std::vector<std::uint32_t>& active_buffer() {
    thread_local std::vector<std::uint32_t> buffer;
    buffer.clear();
    return buffer;
  }

  static std::u32string_view pop_word(std::u32string_view& text) {
    const std::u32string_view word = text.substr(0, text.find(kSpace));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    return word;
  }

  HotwordState state_after(std::u32string_view text) const {
    HotwordState state;
    while (!text.empty()) {
      const std::u32string_view word = pop_word(text);
      state = advance(state, trie_.walk(Trie::kRoot, word), word);
    }
    return state;
  }

  void add(std::u32string_view text, double boost) {
    std::uint32_t node = Trie::kRoot, parent = 0;
    while (!text.empty()) {
      const std::u32string_view word = pop_word(text);
      for (std::size_t count = 1; count <= word.size(); ++count) {
        node = trie_.child(node, word[count - 1]);
        const double score = boost * static_cast<double>(count) / static_cast<double>(word.size());
        double& highest = letter_nodes_[node].partial_score;
        if (!(highest >= score)) highest = score;
      }
      std::uint32_t phrase = letter_nodes_[node].phrase;
      if (phrase == 0) {
        phrase = letter_nodes_[node].phrase = static_cast<std::uint32_t>(phrase_nodes_.size());
        PhraseNode added;
        added.num_words = phrase_nodes_[parent].num_words + 1;
        added.parent = parent;
        added.boost = boost;
        added.last_word = std::u32string(word);
        phrase_nodes_.push_back(std::move(added));
      } else {
        phrase_nodes_[phrase].boost = std::max(phrase_nodes_[phrase].boost, boost);
      }
      parent = phrase;
      if (!text.empty()) {
        node = trie_.child(node, kSpace);
        phrase_nodes_[phrase].next_letters = node;
        phrase_nodes_[phrase].has_children = true;
      }
    }
    PhraseNode& last = phrase_nodes_[parent];
    last.end_boost = last.is_end ? std::max(last.end_boost, boost) : boost;
    last.is_end = true;
  }

  // Nodes of fewer words come first, as longer ones are linked by the links of their parents.
  void add_suffix_links() {
    std::vector<std::uint32_t> order(phrase_nodes_.size() - 1);
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i + 1;
    std::stable_sort(order.begin(), order.end(), [&](auto left, auto right) {
      return phrase_nodes_[left].num_words < phrase_nodes_[right].num_words;
    });
    for (const std::uint32_t id : order) {
      PhraseNode& node = phrase_nodes_[id];
      if (node.parent == 0) continue;
      std::uint32_t suffix = phrase_nodes_[node.parent].suffix_link, found = 0;
      for (; suffix != 0 && found == 0; suffix = phrase_nodes_[suffix].suffix_link) {
        found = next_phrase(phrase_nodes_[suffix].next_letters, node.last_word);
      }
      node.suffix_link = found != 0 ? found : next_phrase(Trie::kRoot, node.last_word);
    }
  }

  // The phrase node after `word`, whose letters begin at trie node `letters`; 0 if no phrase goes on so.
  std::uint32_t next_phrase(std::uint32_t letters, std::u32string_view word) const {
    const std::uint32_t node = trie_.walk(letters, word);
    return node == Trie::kNone ? 0 : letter_nodes_[node].phrase;
  }

  Trie trie_;
  std::vector<LetterNode> letter_nodes_;  // one per trie node
  std::vector<PhraseNode> phrase_nodes_;  // the first stands for no words
};

}  // namespace streamasr
