// Find the words on which all competitive beams agree, commit to them, and bound the paths of beams that
// never agree.

#include "search.hpp"

namespace streamasr {

// Two beams can be recombined if they agree in the words that the language model still looks at, in the
// hotword phrases under way, in the open word and in the last token. All future scores are then the same for
// both, so the worse one can never become the best.
bool Search::can_recombine(const State& state, const Beam& left, const Beam& right) const {
  if (left.partial_word != right.partial_word || left.last_token != right.last_token) return false;
  NodeId left_id = left.history, right_id = right.history;
  const HotwordState &left_hotwords = state.histories[left_id].hotwords,
                     &right_hotwords = state.histories[right_id].hotwords;
  if (left_hotwords.phrase != right_hotwords.phrase) return false;
  if (left_hotwords.covered_words != right_hotwords.covered_words) return false;
  for (std::size_t i = 0; i < lm_history_words_ && left_id != right_id; ++i) {
    const History &left_history = state.histories[left_id], &right_history = state.histories[right_id];
    if (left_history.num_words == 0 || right_history.num_words == 0) return false;
    if (left_history.edge != right_history.edge) return false;
    left_id = left_history.parent;
    right_id = right_history.parent;
  }
  return true;
}

// A hash that is equal for beams that can be recombined.
std::uint64_t Search::recombination_hash(const State& state, const Beam& beam) const {
  const HotwordState& hotwords = state.histories[beam.history].hotwords;
  std::uint64_t hash =
      mix_bits(std::uint64_t{beam.partial_word} << 32 | static_cast<std::uint32_t>(beam.last_token));
  hash = mix_bits(hash ^ (std::uint64_t{hotwords.phrase} << 32 | hotwords.covered_words));
  NodeId id = beam.history;
  for (std::size_t i = 0; i < lm_history_words_ && state.histories[id].num_words != 0; ++i) {
    hash = mix_bits(hash + state.histories[id].edge + 1);
    id = state.histories[id].parent;
  }
  return hash;
}

// Indices of the beams that are left after recombination, best first: of those that can be recombined, the
// best.
std::vector<std::uint32_t> Search::recombined_beams(const State& state) const {
  std::vector<std::uint32_t> kept;
  std::vector<std::uint64_t> hashes;
  for (std::uint32_t i = 0; i < state.beams.size(); ++i) {
    const std::uint64_t hash = recombination_hash(state, state.beams[i]);
    bool is_worse = false;
    for (std::size_t j = 0; j < kept.size() && !is_worse; ++j) {
      is_worse = hashes[j] == hash && can_recombine(state, state.beams[kept[j]], state.beams[i]);
    }
    if (is_worse) continue;
    kept.push_back(i);
    hashes.push_back(hash);
  }
  return kept;
}

NodeId Search::stable_history(const State& state, double margin) const {
  NodeId shared = kNoNode;
  for (const std::uint32_t i : recombined_beams(state)) {
    if (state.beams[i].total < state.beams[0].total - margin) break;
    NodeId history = state.beams[i].history;
    if (shared == kNoNode) shared = history;
    while (shared != history) {
      NodeId& longer =
          state.histories[shared].num_words > state.histories[history].num_words ? shared : history;
      longer = state.histories[longer].parent;
    }
    if (shared == kNoWords) break;
  }
  return shared;
}

void Search::commit(State& state, NodeId history) const {
  state.histories.retain(history);
  state.release_history(state.committed);
  state.committed = history;
  if (state.starts_with(state.beams[0].history, history)) return;
  keep_if(state, [&](const Beam& beam) { return state.starts_with(beam.history, history); });
}

// The last token that the best paths of all beams share.
NodeId Search::common_path(const State& state) const {
  NodeId shared = state.beams[0].path;
  for (const Beam& beam : state.beams) {
    NodeId path = state.path_prefix(beam.path, state.path_length(shared));
    shared = state.path_prefix(shared, state.path_length(path));
    while (shared != path) {
      shared = state.path_tokens[shared].parent;
      path = state.path_tokens[path].parent;
    }
  }
  return shared;
}

// Drops beams until their paths have at most max_path_tokens divergent tokens: those beams that diverge from
// the best one in the first half of its divergent tokens, repeatedly.
void Search::limit_divergence(State& state) const {
  state.common_path = common_path(state);
  while (state.divergent_tokens() > config.max_path_tokens && state.beams.size() > 1) {
    const std::int32_t shared = state.path_length(state.common_path);
    const std::int32_t best = state.path_length(state.beams[0].path);
    const NodeId middle = state.path_prefix(state.beams[0].path, shared + (best - shared + 1) / 2);
    if (middle == state.common_path) {
      keep_if(state, [&](const Beam& beam) { return &beam == &state.beams[0]; });
    } else {
      keep_if(state, [&](const Beam& beam) {
        return state.path_prefix(beam.path, state.path_length(middle)) == middle;
      });
    }
    state.common_path = common_path(state);
  }
}

template <class Predicate>
void Search::keep_if(State& state, const Predicate& keep) const {
  std::vector<Beam> beams;
  for (const Beam& beam : state.beams) {
    if (keep(beam)) {
      beams.push_back(beam);
    } else {
      state.release(beam);
    }
  }
  state.beams = std::move(beams);
}

}  // namespace streamasr
