// What words and beginnings of words are worth to a search: letters, finished words, hotwords, sentence ends.

#include <algorithm>
#include <cmath>

#include "search.hpp"

namespace streamasr {

// A spelling and one more letter.
Spelling Search::longer(const State& state, const Spelling& spelling, char32_t letter) const {
  Spelling next;
  next.edge = letter;
  next.letters = spelling.letters + 1;
  if (lm) next.listed = lm->lexicon.child(spelling.listed, letter);
  next.hotword = state.hotwords->child(spelling.hotword, letter);
  return next;
}

// The node of `part` and a token's piece, kNoNode where nobody holds it.
NodeId Search::find(const State& state, NodeId part, std::u32string_view piece) const {
  for (std::size_t i = 0; i < piece.size() && part != kNoNode; ++i) part = state.spellings.child(part, piece[i]);
  return part;
}

NodeId Search::spell(State& state, NodeId part, std::u32string_view piece) const {
  for (const char32_t letter : piece) {
    NodeId next = state.spellings.child(part, letter);
    if (next == kNoNode) next = state.spellings.add_child(part, longer(state, state.spellings[part], letter));
    part = next;
  }
  return part;
}

HotwordState Search::hear(const State& state, NodeId context, NodeId word) const {
  const Spelling& spelling = state.spellings[word];
  const HotwordState& heard = state.contexts[context].heard;
  if (state.hotwords->empty()) return {};
  if (spelling.hotword == Trie::kNone && heard.place == 0) return {heard.settled, 0.0, 0, 0};
  return state.hotwords->advance(heard, spelling.hotword, heard.place == 0 ? std::u32string() : state.letters(word));
}

NodeId Search::extend(State& state, NodeId context, NodeId word) const {
  if (const NodeId known = state.contexts.child(context, word); known != kNoNode) return known;
  Context longer;
  longer.edge = word;
  longer.words = state.contexts[context].words + 1;
  longer.heard = hear(state, context, word);
  longer.scored = !lm;
  if (!lm) longer.score = longer.heard.settled + longer.heard.pending;
  state.spellings.hold(word);
  return state.contexts.add_child(context, longer);
}

void Search::score(State& state, NodeId id) const {
  Context& context = state.contexts[id];
  if (context.scored) return;
  const Context& before = state.contexts[context.before];
  Spelling& last = state.spellings[context.edge];
  const Spell spell = [&] { return state.text(context.edge); };
  if (last.word == LanguageModel::kUnasked) last.word = lm->word(last.listed, spell);
  auto [gain, next] = lm->score(config.weights, before.lm_state, last.word, spell);
  context.lm_state = std::move(next);
  context.lm_score = before.lm_score + gain;
  context.score = context.lm_score + context.heard.settled + context.heard.pending;
  context.scored = true;
}

// What the open word `part` and then `piece` are worth: as a hotword's beginning, else as a listed word's.
double Search::score_part(const State& state, NodeId context, NodeId part, std::u32string_view piece) const {
  Spelling spelling = state.spellings[part];
  for (const char32_t letter : piece) spelling = longer(state, spelling, letter);
  if (spelling.letters == 0) return 0.0;
  if (!state.hotwords->empty()) {
    const HotwordState& heard = state.contexts[context].heard;
    double credit = state.hotwords->credit(spelling.hotword);
    if (heard.place != 0) {
      credit = state.hotwords->score_part(heard, credit, state.letters(part).append(piece));
    }
    if (!std::isnan(credit)) return credit;
  }
  return lm ? lm->score_partial(config.weights, spelling.listed, spelling.letters) : 0.0;
}

double Search::score_end(const State& state, NodeId id, bool end_of_sentence, bool empty_word) const {
  const Context& context = state.contexts[id];
  double score = context.lm_score + context.heard.settled;
  if (!lm) return score;
  LmStateRef lm_state = context.lm_state;
  if (empty_word) {
    const Spell spell = [] { return std::string(); };
    auto [charge, next] = lm->score(config.weights, lm_state, lm->word(Trie::kNone, spell), spell);
    score += charge;
    lm_state = std::move(next);
  }
  return end_of_sentence ? score + lm->score_end(config.weights, lm_state) : score;
}

void Search::set_hotwords(State& state, std::shared_ptr<const Hotwords> hotwords) const {
  state.hotwords = std::move(hotwords);
  state.spellings[kNoLetters].hotword = state.hotwords->empty() ? Trie::kNone : Trie::kRoot;
  std::vector<NodeId> todo{kNoLetters};
  while (!todo.empty()) {
    const NodeId parent = todo.back();
    todo.pop_back();
    for (NodeId id = state.spellings[parent].first_child; id != kNoNode; id = state.spellings[id].next_sibling) {
      Spelling& child = state.spellings[id];
      child.hotword = state.hotwords->child(state.spellings[parent].hotword, child.edge);
      todo.push_back(id);
    }
  }
  todo.push_back(0);
  while (!todo.empty()) {
    const NodeId parent = todo.back();
    todo.pop_back();
    for (NodeId id = state.contexts[parent].first_child; id != kNoNode; id = state.contexts[id].next_sibling) {
      Context& child = state.contexts[id];
      child.heard = hear(state, parent, child.edge);
      child.score = child.lm_score + child.heard.settled + child.heard.pending;
      todo.push_back(id);
    }
  }
  std::vector<Beam> beams;
  for (Beam& beam : state.beams) {
    if (!state.extends(beam.context, state.committed)) {
      state.drop(beam);
      continue;
    }
    beam.part_score = score_part(state, beam.context, beam.part, {});
    beam.total = beam.score + state.contexts[beam.context].score + beam.part_score;
    beams.push_back(beam);
  }
  std::stable_sort(beams.begin(), beams.end(),
                   [](const Beam& one, const Beam& other) { return one.total > other.total; });
  state.beams = std::move(beams);
}

}  // namespace streamasr
