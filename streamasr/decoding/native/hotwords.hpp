// What hearing a session's hotwords is worth. Immutable; knows letters and words, no beams.
//
// All phrases share one trie of letters, a space between words. The phrases under way after some words are
// always suffixes of one another, so that one place says them all: the longest of them, whose `shorter` link
// leads to the next (Aho and Corasick 1975, over words).
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

// What a sequence of words has earned, and where it stands.
struct HotwordState {
  double settled = 0.0;
  double pending = 0.0;
  std::uint32_t place = 0;   // the longest phrase under way, 0 for none
  std::uint32_t covered = 0; // how many of the last words are part of a whole hotword; no word is paid twice
};

class Hotwords {
 public:
  // Texts as the model spells them, one space between words.
  explicit Hotwords(const std::vector<std::pair<std::u32string, double>>& hotwords)
      : letters_(texts(hotwords)), marks_(letters_.nodes()), places_(1) {
    for (const auto& [text, boost] : hotwords) add(text, boost);
    link();
  }

  bool empty() const { return letters_.empty(); }

  std::size_t bytes() const {
    return letters_.bytes() + marks_.size() * sizeof(Mark) + places_.size() * sizeof(Place);
  }

  // The node of the letter trie one letter further into a hotword's first word; kNone once it has left them.
  std::uint32_t child(std::uint32_t node, char32_t letter) const { return letters_.child(node, letter); }

  // The state after one more whole word.
  //
  // Args: first, the node to which the word's letters lead from the root; word, its letters.
  HotwordState advance(const HotwordState& state, std::uint32_t first, std::u32string_view word) const {
    std::vector<std::uint32_t>& heard = heard_buffer();
    for (std::uint32_t place = state.place; place != 0; place = places_[place].shorter) {
      if (const std::uint32_t next = next_place(places_[place].letters, word)) heard.push_back(next);
    }
    if (first != Trie::kNone && marks_[first].place != 0) heard.push_back(marks_[first].place);
    if (heard.empty()) return {state.settled, 0.0, 0, 0};
    std::reverse(heard.begin(), heard.end());  // the shortest first
    double gain = 0.0;
    std::uint32_t covered = 0;
    for (const std::uint32_t at : heard) {
      const Place& place = places_[at];
      if (!place.ends) continue;
      const std::uint32_t newly = place.words - std::min(place.words - 1, state.covered);
      if (covered == 0 || place.ending_boost * newly > gain) {
        gain = place.ending_boost * newly;
        covered = std::max(place.words, state.covered + 1);
      }
    }
    HotwordState next{state.settled + gain, 0.0, 0, covered};
    for (const std::uint32_t at : heard) {
      const Place& place = places_[at];
      if (!place.goes_on) continue;
      const double worth = place.boost * (place.words > covered ? place.words - covered : 0);
      next.pending = next.place == 0 ? worth : std::max(next.pending, worth);
      next.place = at;
    }
    return next;
  }

  // What the beginning of a first word is worth, up to `node` of the letter trie; NaN where there is none.
  double credit(std::uint32_t node) const { return node == Trie::kNone ? kNothing : marks_[node].credit; }

  // What the beginning of the next word is worth, `credit` as a first word; NaN where no hotword begins so.
  double score_part(const HotwordState& state, double credit, std::u32string_view part) const {
    for (std::uint32_t place = state.place; place != 0; place = places_[place].shorter) {
      const std::uint32_t node = letters_.walk(places_[place].letters, part);
      if (node != Trie::kNone && !(credit >= marks_[node].credit)) credit = marks_[node].credit;
    }
    return credit;
  }

  // What the words of a text are worth, phrases under way included.
  double score(const std::string& text) const {
    const HotwordState state = after(code_points(text));
    return state.settled + state.pending;
  }

  // What the beginning `part` of the word after a text is worth; none where no hotword begins so.
  std::optional<double> score_next(const std::string& text, const std::string& part) const {
    const std::u32string letters = code_points(part);
    const std::uint32_t first = letters_.walk(Trie::kRoot, letters);
    const double worth = score_part(after(code_points(text)), credit(first), letters);
    return std::isnan(worth) ? std::nullopt : std::optional(worth);
  }

 private:
  static constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
  static constexpr char32_t kSpace = U' ';

  // What a node of the letter trie is worth, inside a word.
  struct Mark {
    double credit = kNothing;  // of the word's beginning up to here
    std::uint32_t place = 0;   // where the word is whole
  };
  // A place between the words of phrases.
  struct Place {
    std::uint32_t words = 0;
    std::uint32_t shorter = 0;                // the longest other place whose words end this one's
    std::uint32_t letters = Trie::kNone;      // where the next word's letters begin
    std::uint32_t before = 0;
    double boost = 0.0;                       // the highest of the phrases that go on from here or end here
    double ending_boost = 0.0;                // the highest of those that end here
    bool ends = false;
    bool goes_on = false;
    std::u32string word;                      // the last word
  };

  static std::vector<std::u32string> texts(const std::vector<std::pair<std::u32string, double>>& hotwords) {
    std::vector<std::u32string> found;
    for (const auto& [text, boost] : hotwords) found.push_back(text);
    return found;
  }

  static std::vector<std::uint32_t>& heard_buffer() {
    thread_local std::vector<std::uint32_t> buffer;
    buffer.clear();
    return buffer;
  }

  static std::u32string_view take_word(std::u32string_view& text) {
    const std::u32string_view word = text.substr(0, text.find(kSpace));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    return word;
  }

  HotwordState after(std::u32string_view text) const {
    HotwordState state;
    while (!text.empty()) {
      const std::u32string_view word = take_word(text);
      state = advance(state, letters_.walk(Trie::kRoot, word), word);
    }
    return state;
  }

  void add(std::u32string_view text, double boost) {
    std::uint32_t node = Trie::kRoot, before = 0;
    while (!text.empty()) {
      const std::u32string_view word = take_word(text);
      for (std::size_t heard = 1; heard <= word.size(); ++heard) {
        node = letters_.child(node, word[heard - 1]);
        const double credit = boost * static_cast<double>(heard) / static_cast<double>(word.size());
        if (!(marks_[node].credit >= credit)) marks_[node].credit = credit;
      }
      std::uint32_t at = marks_[node].place;
      if (at == 0) {
        at = marks_[node].place = static_cast<std::uint32_t>(places_.size());
        Place place;
        place.words = places_[before].words + 1;
        place.before = before;
        place.boost = boost;
        place.word = std::u32string(word);
        places_.push_back(std::move(place));
      } else {
        places_[at].boost = std::max(places_[at].boost, boost);
      }
      before = at;
      if (!text.empty()) {
        node = letters_.child(node, kSpace);
        places_[at].letters = node;
        places_[at].goes_on = true;
      }
    }
    Place& last = places_[before];
    last.ending_boost = last.ends ? std::max(last.ending_boost, boost) : boost;
    last.ends = true;
  }

  // Links every place to the next shorter one, places of fewer words first.
  void link() {
    std::vector<std::uint32_t> order(places_.size() - 1);
    for (std::uint32_t i = 0; i < order.size(); ++i) order[i] = i + 1;
    std::stable_sort(order.begin(), order.end(),
                     [&](auto one, auto other) { return places_[one].words < places_[other].words; });
    for (const std::uint32_t at : order) {
      Place& place = places_[at];
      if (place.before == 0) continue;
      std::uint32_t suffix = places_[place.before].shorter, found = 0;
      for (; suffix != 0 && found == 0; suffix = places_[suffix].shorter) {
        found = next_place(places_[suffix].letters, place.word);
      }
      place.shorter = found != 0 ? found : next_place(Trie::kRoot, place.word);
    }
  }

  // The place after `word`, its letters beginning at node `letters`; 0 where no phrase goes on so.
  std::uint32_t next_place(std::uint32_t letters, std::u32string_view word) const {
    const std::uint32_t node = letters_.walk(letters, word);
    return node == Trie::kNone ? 0 : marks_[node].place;
  }

  Trie letters_;
  std::vector<Mark> marks_;
  std::vector<Place> places_;  // the first stands for no word at all
};

}  // namespace streamasr
