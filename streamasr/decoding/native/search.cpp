// Advance all beams by one frame: extend them by every token, sum paths of equal text, score, prune.

#include "search.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace streamasr {

namespace {

constexpr double kLogProbFloor = -34.538776394910684;  // log(1e-15), pyctcdecode's MIN_TOKEN_CLIP_P
constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();
constexpr double kRoundingMargin = 1e-6;  // far above the rounding error of a sum of a few scores
constexpr std::uint32_t kFreeSlot = UINT32_MAX;

// Finds a frame's candidate by text and last token: a hash table with open addressing that is never full.
class CandidateIndex {
 public:
  CandidateIndex(ScratchBuffers& scratch, std::size_t max_candidates)
      : candidates_(scratch.candidates), slots_(scratch.slots) {
    std::size_t size = 64;
    while (size < 2 * max_candidates) size *= 2;
    slots_.assign(size, kFreeSlot);
    mask_ = size - 1;
  }

  // The slot of the candidate, or the free slot in which it belongs.
  std::uint32_t& slot(NodeId history, NodeId partial_word, std::int32_t token, bool adds_spelling) {
    const std::uint64_t key =
        (std::uint64_t{history} << 32 | partial_word) + 0xD6E8FEB86659FD93u * (2 * token + adds_spelling);
    for (std::size_t at = mix_bits(key) & mask_;; at = (at + 1) & mask_) {
      std::uint32_t& slot = slots_[at];
      if (slot == kFreeSlot) return slot;
      const Candidate& known = candidates_[slot];
      if (known.history == history && known.partial_word == partial_word && known.last_token == token &&
          known.adds_spelling == adds_spelling) {
        return slot;
      }
    }
  }

 private:
  const std::vector<Candidate>& candidates_;
  std::vector<std::uint32_t>& slots_;
  std::size_t mask_;
};

}  // namespace

double log_add(double left, double right) {
  const double high = left > right ? left : right, low = left > right ? right : left;
  return high + std::log1p(std::exp(low - high));
}

Search::Search(Tokens tokens, std::shared_ptr<LanguageModel> lm, SearchConfig config)
    : tokens(std::move(tokens)),
      lm(std::move(lm)),
      config(config),
      lm_history_words_(this->lm ? std::max(1, this->lm->order - 1) : 1) {}

State Search::initial(std::shared_ptr<const Hotwords> hotwords, std::int64_t start_frame,
                      const std::vector<std::string>& previous_words) const {
  Spelling no_letters;
  History no_words;
  no_letters.hotword_node = hotwords->empty() ? Trie::kNone : Trie::kRoot;
  if (lm) {
    no_letters.lexicon_node = lm->lexicon.empty() ? Trie::kNone : Trie::kRoot;
    no_words.lm_state = lm->start;
    for (const std::string& word : previous_words) {
      const LazyText spell = [&] { return word; };
      const std::uint32_t lexicon_node = lm->lexicon.walk(no_letters.lexicon_node, code_points(word));
      no_words.lm_state =
          lm->ngram_score(no_words.lm_state, lm->word_id(lexicon_node, spell), spell).next_state;
    }
  }
  return State(tokens.blank, std::move(hotwords), no_letters, no_words, start_frame);
}

template <class Value>
void Search::prune_frame(const Value* log_probs_V, PrunedFrame& frame) const {
  const auto floor = static_cast<Value>(kLogProbFloor);
  const auto threshold = static_cast<Value>(config.token_min_log_prob);
  const auto num_tokens = static_cast<std::int32_t>(tokens.pieces.size());
  frame.tokens.clear();
  frame.best_token = 0;
  Value best = std::max(log_probs_V[0], floor);
  for (std::int32_t token = 1; token < num_tokens; ++token) {
    if (log_probs_V[token] > best) {
      best = log_probs_V[token];
      frame.best_token = token;
    }
  }
  for (std::int32_t token = 0; token < num_tokens; ++token) {
    const Value log_prob = std::max(log_probs_V[token], floor);
    if (log_prob >= threshold || token == frame.best_token) frame.tokens.emplace_back(token, log_prob);
  }
}

template void Search::prune_frame(const float*, PrunedFrame&) const;
template void Search::prune_frame(const double*, PrunedFrame&) const;

void Search::advance(State& state, const PrunedFrame& frame, ScratchBuffers& scratch) const {
  const bool only_blank = frame.tokens.size() == 1 && frame.best_token == tokens.blank;
  if (only_blank && state.ends_in_blank) {
    state.blank_log_prob += frame.tokens[0].second;
  } else {
    expand(state, frame, scratch);
    select(state, scratch);
    replace_beams(state, scratch);
    if (state.divergent_tokens() > config.max_path_tokens) limit_divergence(state);
    state.ends_in_blank = only_blank;
  }
  ++state.num_frames;
}

// Extends every beam by every token of the frame and sums the paths that spell the same text.
void Search::expand(State& state, const PrunedFrame& frame, ScratchBuffers& scratch) const {
  scratch.candidates.clear();
  scratch.finished_histories.assign(state.beams.size(), kNoNode);
  CandidateIndex index(scratch, frame.tokens.size() * state.beams.size());
  for (const auto& [token, log_prob] : frame.tokens) {
    const std::u32string& piece = tokens.pieces[token];
    const bool starts_word = tokens.starts_word[token];
    const NodeId new_word = starts_word ? find_spelling(state, kNoLetters, piece) : kNoNode;
    for (std::uint32_t source = 0; source < state.beams.size(); ++source) {
      const Beam& beam = state.beams[source];
      NodeId history = beam.history, partial_word = beam.partial_word, longer = partial_word;
      const bool same_text = token == tokens.blank || token == beam.last_token;
      if (!same_text && starts_word) {
        if (partial_word != kNoLetters) history = finish_word(state, source, scratch);
        partial_word = kNoLetters;
        longer = new_word;
      } else if (!same_text) {
        longer = find_spelling(state, partial_word, piece);
      }
      const bool adds_spelling = longer == kNoNode;
      if (!adds_spelling) partial_word = longer;
      const double score = beam.score + log_prob, path_score = beam.path_score + log_prob;
      std::uint32_t& slot = index.slot(history, partial_word, token, adds_spelling);
      if (slot == kFreeSlot) {
        slot = static_cast<std::uint32_t>(scratch.candidates.size());
        const std::u32string_view new_letters = adds_spelling ? piece : std::u32string_view();
        const double word_score = same_text ? beam.partial_word_score
                                            : partial_word_score(state, history, partial_word, new_letters);
        scratch.candidates.push_back({history, partial_word, token, source, adds_spelling, score, path_score,
                                      word_score, log_prob, kMinusInfinity});
        continue;
      }
      Candidate& same = scratch.candidates[slot];
      same.score = log_add(score, same.score);
      if (path_score > same.path_score) {
        same.path_score = path_score;
        same.source = source;
      }
    }
  }
}

// The history of a beam with its open word finished; referenced until `replace_beams`.
NodeId Search::finish_word(State& state, std::uint32_t source, ScratchBuffers& scratch) const {
  NodeId& history = scratch.finished_histories[source];
  if (history == kNoNode) {
    history = extend(state, state.beams[source].history, state.beams[source].partial_word);
    state.histories.retain(history);
  }
  return history;
}

// Computes the total of each candidate. Unless `score_all`, skips candidates whose last word has not been
// scored by the language model and which would be pruned even with the highest score that it can give.
void Search::score_candidates(State& state, ScratchBuffers& scratch, bool score_all) const {
  const auto total = [&](const Candidate& candidate) {
    return candidate.score + state.histories[candidate.history].score + candidate.partial_word_score;
  };
  double threshold = kMinusInfinity;
  scratch.totals.clear();
  for (Candidate& candidate : scratch.candidates) {
    if (!state.histories[candidate.history].lm_scored) continue;
    candidate.total = total(candidate);
    scratch.totals.push_back(candidate.total);
    threshold = std::max(threshold, candidate.total + config.beam_prune_log_prob);
  }
  if (scratch.totals.size() >= config.beam_width) {
    const auto last_kept = scratch.totals.begin() + (config.beam_width - 1);
    std::nth_element(scratch.totals.begin(), last_kept, scratch.totals.end(), std::greater<>());
    threshold = std::max(threshold, *last_kept);
  }
  // A log10 probability is at most 0, so with alpha >= 0 no word scores more than this.
  const LmWeights& weights = config.weights;
  const double offset = std::max(0.0, weights.unk_score_offset);
  const double max_word_score = weights.alpha < 0 ? -kMinusInfinity : weights.beta + weights.alpha * offset;
  for (Candidate& candidate : scratch.candidates) {
    const History& history = state.histories[candidate.history];
    if (!history.lm_scored) {
      const double upper_bound = candidate.score + state.histories[history.parent].lm_score + max_word_score +
                                 history.hotwords.completed_score + history.hotwords.pending_score +
                                 candidate.partial_word_score + kRoundingMargin;
      if (!score_all && upper_bound < threshold) continue;
      score_with_lm(state, candidate.history);
    }
    candidate.total = total(candidate);
    threshold = std::max(threshold, candidate.total + config.beam_prune_log_prob);
  }
}

// Lists the candidates that survive pruning in `scratch.kept`, best first.
void Search::select(State& state, ScratchBuffers& scratch) const {
  score_candidates(state, scratch, false);
  const auto& candidates = scratch.candidates;
  const auto best_of = [&](auto&& is_eligible) {
    const Candidate* best = nullptr;
    for (const Candidate& candidate : candidates) {
      if (is_eligible(candidate) && (!best || candidate.total > best->total)) best = &candidate;
    }
    return best;
  };
  const auto is_committed = [&](const Candidate& candidate) {
    return state.starts_with(candidate.history, state.committed);
  };
  const Candidate* best = best_of([](const Candidate&) { return true; });
  // The committed words must stay: where the best candidate does not begin with them, only those that do are
  // kept.
  const bool only_committed = !is_committed(*best);
  if (only_committed) {
    score_candidates(state, scratch, true);
    best = best_of(is_committed);
  }
  const double threshold = best->total + config.beam_prune_log_prob;
  scratch.kept.clear();
  for (std::uint32_t i = 0; i < candidates.size(); ++i) {
    if (candidates[i].total >= threshold && (!only_committed || is_committed(candidates[i]))) {
      scratch.kept.push_back(i);
    }
  }
  const auto is_better = [&](std::uint32_t left, std::uint32_t right) {
    const double difference = candidates[left].total - candidates[right].total;
    return difference != 0.0 ? difference > 0.0 : left < right;
  };
  const std::size_t count = std::min(scratch.kept.size(), config.beam_width);
  const auto end = scratch.kept.begin() + count;
  if (end != scratch.kept.end()) std::nth_element(scratch.kept.begin(), end, scratch.kept.end(), is_better);
  scratch.kept.resize(count);
  std::sort(scratch.kept.begin(), scratch.kept.end(), is_better);
}

// Makes beams of the selected candidates and releases the old beams.
void Search::replace_beams(State& state, ScratchBuffers& scratch) const {
  scratch.finished_paths.assign(state.beams.size(), kNoNode);
  scratch.beams.clear();
  for (const std::uint32_t kept : scratch.kept) {
    scratch.beams.push_back(next_beam(state, scratch.candidates[kept], scratch));
    state.retain(scratch.beams.back());
  }
  for (const Beam& beam : state.beams) state.release(beam);
  for (const NodeId history : scratch.finished_histories) state.release_history(history);
  state.beams.swap(scratch.beams);
  if (!config.prune_history) return;
  std::vector<Beam> beams;
  for (const auto& [beam, best] : recombine(state)) {
    if (beam == best) {
      beams.push_back(state.beams[beam]);
    } else {
      state.release(state.beams[beam]);
    }
  }
  state.beams = std::move(beams);
}

// The beam that a candidate becomes, with its best path.
Beam Search::next_beam(State& state, const Candidate& candidate, ScratchBuffers& scratch) const {
  Beam next = state.beams[candidate.source];
  const std::int32_t token = candidate.last_token;
  const bool has_letters = !tokens.pieces[token].empty();
  const std::int32_t frame = state.num_frames;
  if (token == next.last_token) {
    if (has_letters) {
      next.end = frame + 1;
      next.max_log_prob = std::max(next.max_log_prob, candidate.log_prob);
    }
  } else {
    const auto finish_token = [&](bool ends_word) {
      PathToken finished;
      finished.parent = next.path;
      finished.start = next.start;
      finished.end = next.end;
      finished.max_log_prob = next.max_log_prob;
      finished.path_length = state.path_length(next.path) + 1;
      finished.ends_word = ends_word;
      return state.path_tokens.add(finished);
    };
    if (tokens.starts_word[token] && next.token_open) {
      next.path = finish_token(true);
      next.token_open = false;
    }
    if (has_letters) {
      if (next.token_open) {
        NodeId& path = scratch.finished_paths[candidate.source];
        if (path == kNoNode) path = finish_token(false);
        next.path = path;
      }
      next.token_open = true;
      next.start = frame;
      next.end = frame + 1;
      next.max_log_prob = candidate.log_prob;
    }
  }
  next.history = candidate.history;
  next.partial_word = candidate.adds_spelling
                          ? add_spelling(state, candidate.partial_word, tokens.pieces[token])
                          : candidate.partial_word;
  next.last_token = token;
  next.score = candidate.score;
  next.path_score = candidate.path_score;
  next.partial_word_score = candidate.partial_word_score;
  next.total = candidate.total;
  return next;
}

}  // namespace streamasr
