// CTC prefix beam search with a language model and hotwords, frame by frame (Hannun et al. 2014, with the
// scores of pyctcdecode 0.5.0).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
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

// What each token does to the open word.
struct Tokens {
  std::vector<std::u32string> pieces;  // the letters that it appends
  std::vector<bool> starts_word;       // whether it finishes the open word first
  std::int32_t blank;
  std::int32_t separator;  // -1 if there is none
};

// A frame after pruning of improbable tokens.
struct PrunedFrame {
  std::vector<std::pair<std::int32_t, double>> tokens;  // ids and log-probs, in ascending order of ids
  std::int32_t best_token;
};

// A beam of the next frame while paths are still being added to it.
struct Candidate {
  NodeId history;
  NodeId partial_word;  // without the token's piece if `adds_spelling`: most candidates are pruned before
  std::int32_t last_token;
  std::uint32_t source;  // index of the beam that the best path comes from
  bool adds_spelling;    // whether the partial word with the token's piece has no node yet
  double score;
  double path_score;
  double partial_word_score;
  double log_prob;  // of the token in this frame
  double total;
};

// A beam and the best of those that it can be recombined with, which may be itself; indices of beams.
struct Recombined {
  std::uint32_t beam;
  std::uint32_t best;
};

// What rescoring adds to the scores of histories; see Search::rivals.
struct Rescored {
  std::vector<NodeId> histories;
  std::vector<double> gains;  // natural log, one per history
};

// Which beams count when words are committed.
struct CommitRules {
  double margin;           // beams further below the best one do not (natural log, positive)
  double rival_margin;     // rescoring chooses among recombinable beams this close to the best of them
  std::size_t max_rivals;  // and among this many histories
};

// Memory that one thread reuses from frame to frame. It carries no information between frames.
struct ScratchBuffers {
  PrunedFrame frame;
  std::vector<Candidate> candidates;
  std::vector<std::uint32_t> slots;        // hash table of the candidates
  std::vector<NodeId> finished_histories;  // per beam: its history with the open word finished, if needed
  std::vector<NodeId> finished_paths;      // per beam: its path with the open token finished, if needed
  std::vector<std::uint32_t> kept;
  std::vector<double> totals;
  std::vector<Beam> beams;
};

class Search {
 public:
  // lm: none for acoustic and hotword scores only.
  Search(Tokens tokens, std::shared_ptr<LanguageModel> lm, SearchConfig config);

  // The state before the first frame. previous_words: the words before, if the sentence goes on.
  State initial(std::shared_ptr<const Hotwords> hotwords, std::int64_t start_frame,
                const std::vector<std::string>& previous_words) const;

  // Rescores the words of `state` with other hotwords.
  void set_hotwords(State& state, std::shared_ptr<const Hotwords> hotwords) const;

  // Keeps the tokens of a frame of V log-probs that are at least token_min_log_prob, and the best one. Value
  // is float or double; log-probs are compared in that type.
  template <class Value>
  void prune_frame(const Value* log_probs_V, PrunedFrame& frame) const;

  // Decodes one frame.
  void advance(State& state, const PrunedFrame& frame, ScratchBuffers& scratch) const;

  // The longest history with which every beam begins that can still become the best. Beams more than `margin`
  // (natural log, positive) below the best one are left out.
  NodeId stable_history(const State& state, double margin) const;

  // The histories among which rescoring has to choose before words are committed: those of competitive beams
  // that can be recombined, so that the search alone could drop all but the best.
  std::vector<NodeId> rivals(const State& state, const CommitRules& rules) const;

  // stable_history, if the gains of the `rivals` are added to their scores: of beams that can be recombined,
  // the best one then counts. Rivals beyond the limit are beaten.
  NodeId stable_history(const State& state, const CommitRules& rules, const Rescored& rescored) const;

  // From now on every best hypothesis begins with the words of `history`. Some beam must begin with them.
  void commit(State& state, NodeId history) const;

  // The two steps of a commit: between them, the search still knows what else there was.
  void set_committed(State& state, NodeId history) const;
  void drop_uncommitted(State& state) const;

  // Appends a finished word to a history. Hotwords are scored at once, the language model by `score_with_lm`.
  NodeId extend(State& state, NodeId history, NodeId word) const;
  void score_with_lm(State& state, NodeId history) const;

  // The score of a history at the end of an utterance; phrases under way score nothing.
  double final_score(const State& state, NodeId history, bool end_of_sentence, bool empty_word) const;

  // Natural-log probability, by the language model alone, that the sentence ends after the words of the best
  // beam, its open word included; 0 without a language model.
  double sentence_end_log_prob(const State& state) const;

  const Tokens tokens;
  const std::shared_ptr<LanguageModel> lm;
  const SearchConfig config;

 private:
  // search.cpp
  void expand(State& state, const PrunedFrame& frame, ScratchBuffers& scratch) const;
  NodeId finish_word(State& state, std::uint32_t source, ScratchBuffers& scratch) const;
  void score_candidates(State& state, ScratchBuffers& scratch, bool score_all) const;
  void select(State& state, ScratchBuffers& scratch) const;
  void replace_beams(State& state, ScratchBuffers& scratch) const;
  Beam next_beam(State& state, const Candidate& candidate, ScratchBuffers& scratch) const;

  // scoring.cpp
  Spelling append_letter(const State& state, const Spelling& spelling, char32_t letter) const;
  NodeId find_spelling(const State& state, NodeId spelling, std::u32string_view piece) const;
  NodeId add_spelling(State& state, NodeId spelling, std::u32string_view piece) const;
  HotwordState advance_hotwords(const State& state, NodeId history, NodeId word) const;
  double partial_word_score(const State& state, NodeId history, NodeId word, std::u32string_view piece) const;

  // commit.cpp
  bool can_recombine(const State& state, const Beam& left, const Beam& right) const;
  std::uint64_t recombination_hash(const State& state, const Beam& beam) const;
  std::vector<Recombined> recombine(const State& state) const;
  NodeId shared_words(const State& state, NodeId left, NodeId right) const;
  NodeId common_path(const State& state) const;
  void limit_divergence(State& state) const;
  template <class Predicate>
  void keep_if(State& state, const Predicate& keep) const;

  std::size_t lm_history_words_;  // words on which the language model's next score can depend, at least 1
};

// log(exp(left) + exp(right))
double log_add(double left, double right);

inline std::uint64_t mix_bits(std::uint64_t value) {
  value ^= value >> 32;
  value *= 0x9E3779B97F4A7C15u;
  return value ^ (value >> 29);
}

}  // namespace streamasr
