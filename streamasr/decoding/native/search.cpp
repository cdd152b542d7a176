#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamasr {

namespace {

constexpr double kLogProbFloor = -34.538776394910684;  // log(1e-15): no token is less probable
constexpr double kNever = -std::numeric_limits<double>::infinity();
constexpr double kRounding = 1e-6;  // far more than sums of a few scores can be off
constexpr std::uint32_t kFree = UINT32_MAX;

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
    if (state.open_tokens() > config.max_path_tokens) narrow(state);
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
  const double offset = std::max(0.0, weights.unk_score_offset);
  const double gain = weights.alpha < 0 ? -kNever : weights.beta + weights.alpha * offset;
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
  const auto committed = [&](const Candidate& candidate) {
    return state.extends(candidate.context, state.committed);
  };
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
      said.length = state.length(next.spoken) + 1;
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

}  // namespace streamasr
