// Score histories and partial words of a search with the language model and the hotwords.

#include <algorithm>
#include <cmath>

#include "search.hpp"

namespace streamasr {

Spelling Search::append_letter(const State& state, const Spelling& spelling, char32_t letter) const {
  Spelling longer;
  longer.edge = letter;
  longer.num_letters = spelling.num_letters + 1;
  if (lm) longer.lexicon_node = lm->lexicon.child(spelling.lexicon_node, letter);
  longer.hotword_node = state.hotwords->child(spelling.hotword_node, letter);
  return longer;
}

// The node of a spelling with a token's piece appended; kNoNode if it does not exist yet.
NodeId Search::find_spelling(const State& state, NodeId spelling, std::u32string_view piece) const {
  for (std::size_t i = 0; i < piece.size() && spelling != kNoNode; ++i) {
    spelling = state.spellings.child(spelling, piece[i]);
  }
  return spelling;
}

NodeId Search::add_spelling(State& state, NodeId spelling, std::u32string_view piece) const {
  for (const char32_t letter : piece) {
    NodeId next = state.spellings.child(spelling, letter);
    if (next == kNoNode) {
      next = state.spellings.add_child(spelling, append_letter(state, state.spellings[spelling], letter));
    }
    spelling = next;
  }
  return spelling;
}

HotwordState Search::advance_hotwords(const State& state, NodeId history, NodeId word) const {
  if (state.hotwords->empty()) return {};
  const Spelling& spelling = state.spellings[word];
  const HotwordState& before = state.histories[history].hotwords;
  if (spelling.hotword_node == Trie::kNone && before.phrase == 0) return {before.completed_score, 0.0, 0, 0};
  // The letters are needed only to go on with a phrase.
  const std::u32string letters = before.phrase == 0 ? std::u32string() : state.letters(word);
  return state.hotwords->advance(before, spelling.hotword_node, letters);
}

NodeId Search::extend(State& state, NodeId history, NodeId word) const {
  if (const NodeId known = state.histories.child(history, word); known != kNoNode) return known;
  History longer;
  longer.edge = word;
  longer.num_words = state.histories[history].num_words + 1;
  longer.hotwords = advance_hotwords(state, history, word);
  longer.lm_scored = !lm;
  if (!lm) longer.score = longer.hotwords.completed_score + longer.hotwords.pending_score;
  state.spellings.retain(word);
  return state.histories.add_child(history, longer);
}

void Search::score_with_lm(State& state, NodeId id) const {
  History& history = state.histories[id];
  if (history.lm_scored) return;
  const History& before = state.histories[history.parent];
  Spelling& last_word = state.spellings[history.edge];
  const LazyText spell = [&] { return state.word_text(history.edge); };
  if (last_word.word == LanguageModel::kUnresolved)
    last_word.word = lm->word_id(last_word.lexicon_node, spell);
  auto [word_score, next_state] = lm->score(config.weights, before.lm_state, last_word.word, spell);
  history.lm_state = std::move(next_state);
  history.lm_score = before.lm_score + word_score;
  history.score = history.lm_score + history.hotwords.completed_score + history.hotwords.pending_score;
  history.lm_scored = true;
}

// The score of an open word with a token's piece appended: as the beginning of a hotword if it is one, else
// the language model's.
double Search::partial_word_score(const State& state, NodeId history, NodeId word,
                                  std::u32string_view piece) const {
  Spelling spelling = state.spellings[word];
  for (const char32_t letter : piece) spelling = append_letter(state, spelling, letter);
  if (spelling.num_letters == 0) return 0.0;
  if (!state.hotwords->empty()) {
    const HotwordState& hotwords = state.histories[history].hotwords;
    double score = state.hotwords->first_word_score(spelling.hotword_node);
    if (hotwords.phrase != 0) {
      score = state.hotwords->partial_word_score(hotwords, score, state.letters(word).append(piece));
    }
    if (!std::isnan(score)) return score;
  }
  return lm ? lm->score_partial(config.weights, spelling.lexicon_node, spelling.num_letters) : 0.0;
}

double Search::final_score(const State& state, NodeId id, bool end_of_sentence, bool empty_word) const {
  const History& history = state.histories[id];
  double score = history.lm_score + history.hotwords.completed_score;
  if (!lm) return score;
  LmStateRef lm_state = history.lm_state;
  if (empty_word) {
    const LazyText spell = [] { return std::string(); };
    auto [word_score, next_state] =
        lm->score(config.weights, lm_state, lm->word_id(Trie::kNone, spell), spell);
    score += word_score;
    lm_state = std::move(next_state);
  }
  return end_of_sentence ? score + lm->score_end(config.weights, lm_state) : score;
}

double Search::sentence_end_log_prob(const State& state) const {
  if (!lm) return 0.0;
  const Beam& beam = state.beams[0];
  LmStateRef lm_state = state.histories[beam.history].lm_state;
  if (beam.partial_word != kNoLetters) {
    const LazyText spell = [&] { return state.word_text(beam.partial_word); };
    const auto word = lm->word_id(state.spellings[beam.partial_word].lexicon_node, spell);
    lm_state = lm->ngram_score(lm_state, word, spell).next_state;
  }
  return lm->score_end({1.0, 0.0, 0.0}, lm_state);
}

void Search::set_hotwords(State& state, std::shared_ptr<const Hotwords> hotwords) const {
  state.hotwords = std::move(hotwords);
  state.spellings[kNoLetters].hotword_node = state.hotwords->empty() ? Trie::kNone : Trie::kRoot;
  std::vector<NodeId> pending{kNoLetters};
  while (!pending.empty()) {
    const NodeId parent = pending.back();
    pending.pop_back();
    for (NodeId id = state.spellings[parent].first_child; id != kNoNode;
         id = state.spellings[id].next_sibling) {
      Spelling& child = state.spellings[id];
      child.hotword_node = state.hotwords->child(state.spellings[parent].hotword_node, child.edge);
      pending.push_back(id);
    }
  }
  pending.push_back(kNoWords);
  while (!pending.empty()) {
    const NodeId parent = pending.back();
    pending.pop_back();
    for (NodeId id = state.histories[parent].first_child; id != kNoNode;
         id = state.histories[id].next_sibling) {
      History& child = state.histories[id];
      child.hotwords = advance_hotwords(state, parent, child.edge);
      child.score = child.lm_score + child.hotwords.completed_score + child.hotwords.pending_score;
      pending.push_back(id);
    }
  }
  std::vector<Beam> beams;
  for (Beam& beam : state.beams) {
    if (!state.starts_with(beam.history, state.committed)) {
      state.release(beam);
      continue;
    }
    beam.partial_word_score = partial_word_score(state, beam.history, beam.partial_word, {});
    beam.total = beam.score + state.histories[beam.history].score + beam.partial_word_score;
    beams.push_back(beam);
  }
  std::stable_sort(beams.begin(), beams.end(),
                   [](const Beam& left, const Beam& right) { return left.total > right.total; });
  state.beams = std::move(beams);
}

}  // namespace streamasr
