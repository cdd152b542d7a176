// Which beams can still win, and what all of them begin with.

#include "search.hpp"

namespace streamasr {

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
  keep_if(state, [&](const Beam& beam) { return state.extends(beam.context, context); });
}

// The last token that the best paths of all beams pass.
NodeId Search::shared_path(const State& state) const {
  NodeId shared = state.beams[0].spoken;
  for (const Beam& beam : state.beams) {
    NodeId path = state.cut(beam.spoken, state.length(shared));
    shared = state.cut(shared, state.length(path));
    while (shared != path) {
      shared = state.spoken[shared].before;
      path = state.spoken[path].before;
    }
  }
  return shared;
}

// Where beams have disagreed for so long that their paths hold more tokens than are allowed, the best one decides:
// beams that part from it before the middle of its open tokens go, and again until the rest is few enough.
void Search::narrow(State& state) const {
  state.trunk = shared_path(state);
  while (state.open_tokens() > config.max_path_tokens && state.beams.size() > 1) {
    const std::int32_t trunk = state.length(state.trunk), best = state.length(state.beams[0].spoken);
    const NodeId middle = state.cut(state.beams[0].spoken, trunk + (best - trunk + 1) / 2);
    if (middle == state.trunk) {
      keep_if(state, [&](const Beam& beam) { return &beam == &state.beams[0]; });
    } else {
      keep_if(state, [&](const Beam& beam) { return state.cut(beam.spoken, state.length(middle)) == middle; });
    }
    state.trunk = shared_path(state);
  }
}

template <class Keep>
void Search::keep_if(State& state, const Keep& keep) const {
  std::vector<Beam> beams;
  for (const Beam& beam : state.beams) {
    if (keep(beam)) {
      beams.push_back(beam);
    } else {
      state.drop(beam);
    }
  }
  state.beams = std::move(beams);
}

}  // namespace streamasr
