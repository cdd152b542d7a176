// CTC prefix beam search with a language model and hotwords, one frame after another (Hannun et al. 2014;
// scored as pyctcdecode 0.5.0 scores it). Knows no utterances and no Python.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "state.hpp"

namespace streamasr {

struct SearchConfig {
  std::size_t beam_width;
  double beam_prune_log_prob;
  double token_min_log_prob;
  bool prune_history;
  bool charge_empty_last_word;
  std::size_t max_path_tokens;
  LmWeights weights;
};

// What the tokens do to the word being spelt.
struct Tokens {
  std::vector<std::u32string> pieces;  // what each adds to it
  std::vector<bool> starts;            // whether each finishes the word before it
  std::int32_t blank;
  std::int32_t separator;  // -1 where there is none
};

// What one frame offers.
struct Frame {
  std::vector<std::pair<std::int32_t, double>> tokens;  // those worth trying with log-probs, rising ids
  std::int32_t best;                                    // the most probable of them
};

// A beam of the next frame while paths are still being added to it.
struct Candidate {
  NodeId context;
  NodeId part;  // without the token's piece if it `grows`: most candidates are never spelt out
  std::int32_t token;
  std::uint32_t source;  // the beam of this frame that the best path comes from
  bool grows;
  double score;
  double path_score;
  double part_score;
  double log_prob;
  double total;
};

// Memory that a thread reuses from frame to frame; holds nothing between frames.
struct Workspace {
  Frame frame;
  std::vector<Candidate> candidates;
  std::vector<std::uint32_t> slots;  // hash table over the candidates
  std::vector<NodeId> finished;      // per beam: its context once its open word is finished, if that was asked
  std::vector<NodeId> said;          // per beam: its path once its last token is finished
  std::vector<std::uint32_t> kept;
  std::vector<double> totals;
  std::vector<Beam> beams;
};

class Search {
 public:
  // lm: none for acoustic scores (and hotwords) alone.
  Search(Tokens tokens, std::shared_ptr<LanguageModel> lm, SearchConfig config);

  // A search that has heard nothing. after: words said just before, where the sentence goes on.
  State initial(std::shared_ptr<const Hotwords> hotwords, std::int64_t origin,
                const std::vector<std::string>& after) const;

  // As if the words so far had been heard with other hotwords.
  void set_hotwords(State& state, std::shared_ptr<const Hotwords> hotwords) const;

  // What a frame of V log-probs offers. Value is float or double; comparisons are made in it.
  template <class Value>
  void cut(const Value* log_probs_V, Frame& frame) const;

  // Hears one frame.
  void advance(State& state, const Frame& frame, Workspace& work) const;

  // The longest context with which every beam that can still win begins. Beams further than `margin` (natural
  // log, positive) below the best one count as beaten.
  NodeId settled(const State& state, double margin) const;

  // From now on every best reading begins with the words of `context`, with which some beam begins.
  void commit(State& state, NodeId context) const;

  // A context and one more finished word, scored by the hotwords and, unless it is put off, by the model.
  NodeId extend(State& state, NodeId context, NodeId word) const;
  void score(State& state, NodeId context) const;

  // What a context is worth when nothing follows; a phrase left open earns nothing.
  double score_end(const State& state, NodeId context, bool end_of_sentence, bool empty_word) const;

  const Tokens tokens;
  const std::shared_ptr<LanguageModel> lm;
  const SearchConfig config;

 private:
  Spelling longer(const State& state, const Spelling& spelling, char32_t letter) const;
  NodeId find(const State& state, NodeId part, std::u32string_view piece) const;
  NodeId spell(State& state, NodeId part, std::u32string_view piece) const;
  NodeId finished(State& state, std::uint32_t source, Workspace& work) const;
  double score_part(const State& state, NodeId context, NodeId part, std::u32string_view piece) const;
  HotwordState hear(const State& state, NodeId context, NodeId word) const;
  void expand(State& state, const Frame& frame, Workspace& work) const;
  void score_candidates(State& state, Workspace& work, bool all) const;
  void select(State& state, Workspace& work) const;
  void rebuild(State& state, Workspace& work) const;
  NodeId shared_path(const State& state) const;
  void narrow(State& state) const;
  template <class Keep>
  void keep_if(State& state, const Keep& keep) const;
  Beam next_beam(State& state, const Candidate& candidate, Workspace& work) const;
  std::vector<std::uint32_t> undominated(const State& state) const;
  bool same_future(const State& state, const Beam& one, const Beam& other) const;
  std::uint64_t future_hash(const State& state, const Beam& beam) const;

  std::size_t remembered_words_;
};

// log(exp(a) + exp(b))
double log_add(double one, double other);

// A hash of a number.
inline std::uint64_t mixed(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0x9E3779B97F4A7C15u;
  return value ^ (value >> 29);
}

}  // namespace streamasr
