// Find the words on which all competitive beams agree, commit to them, and bound the paths of beams that
// never agree.

#include <algorithm>
#include <limits>
#include <utility>

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

// All beams in their order, each with the best one that it can be recombined with.
std::vector<Recombined> Search::recombine(const State& state) const {
  std::vector<Recombined> recombined;
  std::vector<std::uint32_t> best;  // of those that can be recombined
  std::vector<std::uint64_t> hashes;
  for (std::uint32_t i = 0; i < state.beams.size(); ++i) {
    const std::uint64_t hash = recombination_hash(state, state.beams[i]);
    std::size_t j = 0;
    while (j < best.size() &&
           !(hashes[j] == hash && can_recombine(state, state.beams[best[j]], state.beams[i]))) {
      ++j;
    }
    if (j == best.size()) {
      best.push_back(i);
      hashes.push_back(hash);
    }
    recombined.push_back({i, best[j]});
  }
  return recombined;
}

std::vector<NodeId> Search::rivals(const State& state, const CommitRules& rules) const {
  const std::vector<Recombined> recombined = recombine(state);
  const auto is_rival = [&](const Recombined& each) {
    const double best = state.beams[each.best].total;
    return best >= state.beams[0].total - rules.margin &&
           best - state.beams[each.beam].total < rules.rival_margin;
  };
  std::vector<bool> contested(state.beams.size(), false);
  for (const Recombined& each : recombined) {
    if (each.beam != each.best && is_rival(each)) contested[each.best] = true;
  }
  std::vector<NodeId> histories;
  for (const Recombined& each : recombined) {
    if (histories.size() == rules.max_rivals) break;
    const NodeId history = state.beams[each.beam].history;
    if (contested[each.best] && is_rival(each) &&
        std::find(histories.begin(), histories.end(), history) == histories.end()) {
      histories.push_back(history);
    }
  }
  return histories;
}

// The words that two histories have in common at their beginning.
NodeId Search::shared_words(const State& state, NodeId left, NodeId right) const {
  while (left != right) {
    NodeId& longer = state.histories[left].num_words > state.histories[right].num_words ? left : right;
    longer = state.histories[longer].parent;
  }
  return left;
}

NodeId Search::stable_history(const State& state, double margin) const {
  return stable_history(state, {margin, 0.0, 0}, {});
}

NodeId Search::stable_history(const State& state, const CommitRules& rules, const Rescored& rescored) const {
  constexpr double kUnknown = -std::numeric_limits<double>::infinity();
  const auto rescored_total = [&](const Beam& beam) {
    const auto known = std::find(rescored.histories.begin(), rescored.histories.end(), beam.history);
    if (known == rescored.histories.end()) return kUnknown;
    return beam.total + rescored.gains[known - rescored.histories.begin()];
  };
  // At each best beam: the history of the best after rescoring among those that can be recombined, and its
  // score.
  std::vector<NodeId> winners(state.beams.size(), kNoNode);
  std::vector<double> totals(state.beams.size());
  for (const auto& [at, best_at] : recombine(state)) {
    const Beam &beam = state.beams[at], &best = state.beams[best_at];
    if (best.total < state.beams[0].total - rules.margin) continue;
    const double total = rescored_total(beam);
    const bool is_rival = totals[best_at] != kUnknown && best.total - beam.total < rules.rival_margin;
    if (at == best_at || (is_rival && total > totals[best_at])) {
      winners[best_at] = beam.history;
      totals[best_at] = total;
    }
  }
  NodeId shared = kNoNode;
  for (const NodeId history : winners) {
    if (history == kNoNode) continue;
    shared = shared == kNoNode ? history : shared_words(state, shared, history);
    if (shared == kNoWords) break;
  }
  return shared;
}

void Search::drop_uncommitted(State& state) const {
  keep_if(state, [&](const Beam& beam) { return state.starts_with(beam.history, state.committed); });
}

void Search::set_committed(State& state, NodeId history) const {
  state.histories.retain(history);
  state.release_history(state.committed);
  state.committed = history;
}

void Search::commit(State& state, NodeId history) const {
  set_committed(state, history);
  if (!state.starts_with(state.beams[0].history, history)) drop_uncommitted(state);
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
