#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamasr {

namespace {

constexpr double kLogProbFloor = -34.538776394910684;  // log(1e-15): no token is less probable
constexpr double kNever = -std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-6;  // far more than sums of a few scores can be off
constexpr NodeId kNoLetters = PrefixTree<Spelling>::kRoot;
constexpr std::uint32_t kFree = UINT32_MAX;

std::uint64_t mixed(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0x9E3779B97F4A7C15u;
  return value ^ (value >> 29);
}

// Finds the candidate of a text and a token among those of this frame; open addressing, never full.
class CandidateIndex {
 public:
  CandidateIndex(Workspace& work, std::size_t most) : candidates_(work.candidates), slots_(work.slots) {
    std::size_t size = 64;
    while (size < 2 * most) size *= 2;
    slots_.assign(size, kFree);
    mask_ = size - 1;
  }

  // The slot of the candidate, or the free slot where it belongs.
  std::uint32_t& slot(NodeId context, NodeId part, std::int32_t token, bool grows) {
    const std::uint64_t key = (std::uint64_t{context} << 32 | part) + 0xD6E8FEB86659FD93u * (2 * token + grows);
    for (std::size_t at = mixed(key) & mask_;; at = (at + 1) & mask_) {
      std::uint32_t& slot = slots_[at];
      if (slot == kFree) return slot;
      const Candidate& known = candidates_[slot];
      if (known.context == context && known.part == part && known.token == token && known.grows == grows) return slot;
    }
  }

 private:
  const std::vector<Candidate>& candidates_;
  std::vector<std::uint32_t>& slots_;
  std::size_t mask_;
};

}  // namespace

double log_add(double one, double other) {
  const double high = one > other ? one : other, low = one > other ? other : one;
  return high + std::log1p(std::exp(low - high));
}

Search::Search(Tokens tokens, std::shared_ptr<LanguageModel> lm, SearchConfig config)
    : tokens(std::move(tokens)),
      lm(std::move(lm)),
      config(config),
      remembered_words_(this->lm ? std::max(1, this->lm->order - 1) : 1) {}

State Search::initial(std::shared_ptr<const Hotwords> hotwords, std::int64_t origin,
                      const std::vector<std::string>& after) const {
  Spelling no_letters;
  Context no_words;
  no_letters.hotword = hotwords->empty() ? Trie::kNone : Trie::kRoot;
  if (lm) {
    no_letters.listed = lm->lexicon.empty() ? Trie::kNone : Trie::kRoot;
    no_words.lm_state = lm->start;
    for (const std::string& word : after) {
      const Spell spell = [&] { return word; };
      const std::uint32_t listed = lm->lexicon.walk(no_letters.listed, code_points(word));
      no_words.lm_state = lm->ask(no_words.lm_state, lm->word(listed, spell), spell).next;
    }
  }
  return State(tokens.blank, std::move(hotwords), no_letters, no_words, origin);
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

template <class Value>
void Search::cut(const Value* log_probs_V, Frame& frame) const {
  const auto floor = static_cast<Value>(kLogProbFloor), least = static_cast<Value>(config.token_min_log_prob);
  const auto count = static_cast<std::int32_t>(tokens.pieces.size());
  frame.tokens.clear();
  frame.best = 0;
  Value best = std::max(log_probs_V[0], floor);
  for (std::int32_t token = 1; token < count; ++token) {
    if (log_probs_V[token] > best) {
      best = log_probs_V[token];
      frame.best = token;
    }
  }
  for (std::int32_t token = 0; token < count; ++token) {
    const Value log_prob = std::max(log_probs_V[token], floor);
    if (log_prob >= least || token == frame.best) frame.tokens.emplace_back(token, log_prob);
  }
}

template void Search::cut(const float*, Frame&) const;
template void Search::cut(const double*, Frame&) const;

void Search::advance(State& state, const Frame& frame, Workspace& work) const {
  const bool only_blank = frame.tokens.size() == 1 && frame.best == tokens.blank;
  if (only_blank && state.resting) {
    state.offset += frame.tokens[0].second;
  } else {
    expand(state, frame, work);
    select(state, work);
    rebuild(state, work);
    state.resting = only_blank;
  }
  ++state.frames;
}

// Every beam with every token of the frame; paths that spell the same text are summed.
void Search::expand(State& state, const Frame& frame, Workspace& work) const {
  work.candidates.clear();
  work.finished.assign(state.beams.size(), kNoNode);
  CandidateIndex index(work, frame.tokens.size() * state.beams.size());
  for (const auto& [token, log_prob] : frame.tokens) {
    const std::u32string& piece = tokens.pieces[token];
    const bool starts = tokens.starts[token];
    const NodeId begun = starts ? find(state, kNoLetters, piece) : kNoNode;
    for (std::uint32_t source = 0; source < state.beams.size(); ++source) {
      const Beam& beam = state.beams[source];
      NodeId context = beam.context, part = beam.part, longer = part;
      const bool stays = token == tokens.blank || token == beam.token;
      if (!stays && starts) {
        if (part != kNoLetters) context = finished(state, source, work);
        part = kNoLetters;
        longer = begun;
      } else if (!stays) {
        longer = find(state, part, piece);
      }
      const bool grows = longer == kNoNode;
      if (!grows) part = longer;
      const double score = beam.score + log_prob, path_score = beam.path_score + log_prob;
      std::uint32_t& slot = index.slot(context, part, token, grows);
      if (slot == kFree) {
        slot = static_cast<std::uint32_t>(work.candidates.size());
        const double part_score =
            stays ? beam.part_score : score_part(state, context, part, grows ? piece : std::u32string_view());
        work.candidates.push_back(
            {context, part, token, source, grows, score, path_score, part_score, log_prob, kNever});
        continue;
      }
      Candidate& same = work.candidates[slot];
      same.score = log_add(score, same.score);
      if (path_score > same.path_score) {
        same.path_score = path_score;
        same.source = source;
      }
    }
  }
}

// The context of a beam once its open word is finished; held until the frame is over.
NodeId Search::finished(State& state, std::uint32_t source, Workspace& work) const {
  NodeId& context = work.finished[source];
  if (context == kNoNode) {
    context = extend(state, state.beams[source].context, state.beams[source].part);
    state.contexts.hold(context);
  }
  return context;
}

// Adds up what each candidate is worth. Unless told to do `all`, leaves out those whose last word the model
// need not be asked about: whatever it said, others would drop them.
void Search::score_candidates(State& state, Workspace& work, bool all) const {
  const auto total = [&](const Candidate& candidate) {
    return candidate.score + state.contexts[candidate.context].score + candidate.part_score;
  };
  double least = kNever;
  work.totals.clear();
  for (Candidate& candidate : work.candidates) {
    if (!state.contexts[candidate.context].scored) continue;
    candidate.total = total(candidate);
    work.totals.push_back(candidate.total);
    least = std::max(least, candidate.total + config.beam_prune_log_prob);
  }
  const auto sift = [&] {
    if (work.totals.size() < config.beam_width) return;
    const auto last = work.totals.begin() + (config.beam_width - 1);
    std::nth_element(work.totals.begin(), last, work.totals.end(), std::greater<>());
    least = std::max(least, *last);
  };
  sift();
  // A word's log10 probability is at most 0, so that alpha >= 0 makes beta all that it can gain.
  const LmWeights& weights = config.weights;
  const double gain = weights.alpha < 0 ? -kNever : weights.beta + weights.alpha * std::max(0.0, weights.unk_score_offset);
  for (Candidate& candidate : work.candidates) {
    const Context& context = state.contexts[candidate.context];
    if (!context.scored) {
      const double most = candidate.score + state.contexts[context.before].lm_score + gain +
                          context.heard.settled + context.heard.pending + candidate.part_score + kRounding;
      if (!all && most < least) continue;
      score(state, candidate.context);
    }
    candidate.total = total(candidate);
    least = std::max(least, candidate.total + config.beam_prune_log_prob);
  }
}

// Lists the candidates worth keeping, best first.
void Search::select(State& state, Workspace& work) const {
  score_candidates(state, work, false);
  const auto& candidates = work.candidates;
  const auto best_of = [&](auto&& eligible) {
    const Candidate* best = nullptr;
    for (const Candidate& candidate : candidates) {
      if (eligible(candidate) && (!best || candidate.total > best->total)) best = &candidate;
    }
    return best;
  };
  const auto committed = [&](const Candidate& candidate) { return state.extends(candidate.context, state.committed); };
  const Candidate* best = best_of([](const Candidate&) { return true; });
  const bool strayed = !committed(*best);
  if (strayed) {
    score_candidates(state, work, true);
    best = best_of(committed);
  }
  const double least = best->total + config.beam_prune_log_prob;
  work.kept.clear();
  for (std::uint32_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].total >= least && (!strayed || committed(candidates[i]))) work.kept.push_back(i);
  }
  const auto better = [&](std::uint32_t one, std::uint32_t other) {
    const double gap = candidates[one].total - candidates[other].total;
    return gap != 0.0 ? gap > 0.0 : one < other;
  };
  const std::size_t count = std::min(work.kept.size(), config.beam_width);
  const auto end = work.kept.begin() + count;
  if (end != work.kept.end()) std::nth_element(work.kept.begin(), end, work.kept.end(), better);
  work.kept.resize(count);
  std::sort(work.kept.begin(), work.kept.end(), better);
}

// Makes the kept candidates the beams, and lets go of everything else.
void Search::rebuild(State& state, Workspace& work) const {
  work.said.assign(state.beams.size(), kNoNode);
  work.beams.clear();
  for (const std::uint32_t kept : work.kept) {
    work.beams.push_back(next_beam(state, work.candidates[kept], work));
    state.hold(work.beams.back());
  }
  for (const Beam& beam : state.beams) state.drop(beam);
  for (const NodeId context : work.finished) state.drop_context(context);
  state.beams.swap(work.beams);
  if (!config.prune_history) return;
  const std::vector<std::uint32_t> places = undominated(state);
  std::vector<Beam> beams;
  for (std::uint32_t i = 0, next = 0; i < state.beams.size(); ++i) {
    if (next < places.size() && places[next] == i) {
      beams.push_back(state.beams[i]);
      ++next;
    } else {
      state.drop(state.beams[i]);
    }
  }
  state.beams = std::move(beams);
}

// The beam that a candidate becomes, with the path behind it.
Beam Search::next_beam(State& state, const Candidate& candidate, Workspace& work) const {
  Beam next = state.beams[candidate.source];
  const std::int32_t token = candidate.token;
  const bool sounds = !tokens.pieces[token].empty();
  const std::int32_t frame = state.frames;
  if (token == next.token) {
    if (sounds) {
      next.end = frame + 1;
      next.peak = std::max(next.peak, candidate.log_prob);
    }
  } else {
    const auto finish_token = [&](bool ends_word) {
      Spoken said;
      said.before = next.spoken;
      said.start = next.start;
      said.end = next.end;
      said.peak = next.peak;
      said.ends_word = ends_word;
      return state.spoken.add(said);
    };
    if (tokens.starts[token] && next.open) {
      next.spoken = finish_token(true);
      next.open = false;
    }
    if (sounds) {
      if (next.open) {
        NodeId& said = work.said[candidate.source];
        if (said == kNoNode) said = finish_token(false);
        next.spoken = said;
      }
      next.open = true;
      next.start = frame;
      next.end = frame + 1;
      next.peak = candidate.log_prob;
    }
  }
  next.context = candidate.context;
  next.part = candidate.grows ? spell(state, candidate.part, tokens.pieces[token]) : candidate.part;
  next.token = token;
  next.score = candidate.score;
  next.path_score = candidate.path_score;
  next.part_score = candidate.part_score;
  next.total = candidate.total;
  return next;
}

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

// Two beams that agree on the words the model still looks at, on the hotwords under way, on the open word and
// on the last token gain the same from every frame to come, so that the worse of them can never win.
bool Search::same_future(const State& state, const Beam& one, const Beam& other) const {
  if (one.part != other.part || one.token != other.token) return false;
  NodeId left = one.context, right = other.context;
  const HotwordState &heard = state.contexts[left].heard, &also = state.contexts[right].heard;
  if (heard.place != also.place || heard.covered != also.covered) return false;
  for (std::size_t i = 0; i < remembered_words_ && left != right; ++i) {
    const Context &word = state.contexts[left], &its = state.contexts[right];
    if (word.words == 0 || its.words == 0 || word.edge != its.edge) return false;
    left = word.before;
    right = its.before;
  }
  return true;
}

std::uint64_t Search::future_hash(const State& state, const Beam& beam) const {
  const HotwordState& heard = state.contexts[beam.context].heard;
  std::uint64_t hash = mixed(std::uint64_t{beam.part} << 32 | static_cast<std::uint32_t>(beam.token));
  hash = mixed(hash ^ (std::uint64_t{heard.place} << 32 | heard.covered));
  NodeId id = beam.context;
  for (std::size_t i = 0; i < remembered_words_ && state.contexts[id].words != 0; ++i) {
    hash = mixed(hash + state.contexts[id].edge + 1);
    id = state.contexts[id].before;
  }
  return hash;
}

// Every beam but those of which a better one has the same future, best first.
std::vector<std::uint32_t> Search::undominated(const State& state) const {
  std::vector<std::uint32_t> found;
  std::vector<std::uint64_t> hashes;
  for (std::uint32_t i = 0; i < state.beams.size(); ++i) {
    const std::uint64_t hash = future_hash(state, state.beams[i]);
    bool dominated = false;
    for (std::size_t j = 0; j < found.size() && !dominated; ++j) {
      dominated = hashes[j] == hash && same_future(state, state.beams[found[j]], state.beams[i]);
    }
    if (dominated) continue;
    found.push_back(i);
    hashes.push_back(hash);
  }
  return found;
}

NodeId Search::settled(const State& state, double margin) const {
  NodeId shared = kNoNode;
  for (const std::uint32_t i : undominated(state)) {
    if (state.beams[i].total < state.beams[0].total - margin) break;
    NodeId context = state.beams[i].context;
    if (shared == kNoNode) shared = context;
    while (shared != context) {
      NodeId& longer = state.contexts[shared].words > state.contexts[context].words ? shared : context;
      longer = state.contexts[longer].before;
    }
    if (shared == 0) break;
  }
  return shared;
}

void Search::commit(State& state, NodeId context) const {
  state.contexts.hold(context);
  state.drop_context(state.committed);
  state.committed = context;
  if (state.extends(state.beams[0].context, context)) return;
  std::vector<Beam> beams;
  for (const Beam& beam : state.beams) {
    if (state.extends(beam.context, context)) {
      beams.push_back(beam);
    } else {
      state.drop(beam);
    }
  }
  state.beams = std::move(beams);
}

}  // namespace streamasr
