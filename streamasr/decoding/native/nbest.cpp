#include "nbest.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace streamasr {

namespace {

constexpr std::int32_t kTimeToleranceFrames = 5;  // words whose frames are this close are at the same time
constexpr double kMinProbability = 1e-3;          // less probable texts do not count for posteriors

// One text: the beams that spell it, summed.
struct Text {
  NodeId first_words;  // all words but the last
  NodeId last_word;    // finished or open
  NodeId history;      // its finished words; all of them in a final n-best list
  double score;
  double path_score;
  const Beam* best_beam;  // the beam of the best path
  bool ends_in_separator = false;
};

// A word on a path. If two paths have the node of its last token in common, they share the word and all
// before it.
struct PathWord {
  NodeId spelling;
  NodeId node;           // of its last token, kNoNode while the word is open
  NodeId last_finished;  // its last token that is finished
  std::int32_t start;
  std::int32_t end;
};

// Iterates over the words of a beam's best path from the last one to the first.
class ReversePathWords {
 public:
  ReversePathWords(const State& state, const Beam& beam)
      : state_(state), beam_(&beam), history_(beam.history), node_(beam.path) {}

  bool next(PathWord& word) {
    const bool is_open = std::exchange(is_last_, false) && beam_->token_open;
    if (!is_open && node_ == kNoNode) return false;
    word.node = is_open ? kNoNode : node_;
    word.spelling = is_open ? beam_->partial_word : state_.histories[history_].edge;
    if (!is_open) history_ = state_.histories[history_].parent;
    word.end = is_open ? beam_->end : state_.path_tokens[node_].end;
    word.start = is_open ? beam_->start : state_.path_tokens[node_].start;
    word.last_finished = node_;
    if (!is_open) node_ = state_.path_tokens[node_].parent;
    for (; node_ != kNoNode && !state_.path_tokens[node_].ends_word;
         node_ = state_.path_tokens[node_].parent) {
      word.start = state_.path_tokens[node_].start;
    }
    return true;
  }

 private:
  const State& state_;
  const Beam* beam_;
  bool is_last_ = true;
  NodeId history_;
  NodeId node_;
};

std::vector<PathWord> path_words(const State& state, const Beam& beam) {
  std::vector<PathWord> words;
  ReversePathWords path(state, beam);
  for (PathWord word; path.next(word);) words.push_back(word);
  std::reverse(words.begin(), words.end());
  return words;
}

std::vector<TimedToken> timed_tokens(const State& state, const Beam& beam, const PathWord& word) {
  std::vector<TimedToken> tokens;
  const auto add = [&](const auto& token) {
    tokens.push_back({state.start_frame + token.start, state.start_frame + token.end, token.max_log_prob});
  };
  if (word.node == kNoNode) add(beam);
  for (NodeId id = word.last_finished; id != kNoNode; id = state.path_tokens[id].parent) {
    if (state.path_tokens[id].ends_word && id != word.node) break;
    add(state.path_tokens[id]);
  }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

// Merges beams of equal text; texts are in the order of the best beam of each.
template <class Score>
std::vector<Text> merge_by_text(const State& state, const Score& score) {
  std::vector<Text> texts;
  for (const Beam& beam : state.beams) {
    const bool no_open_word = beam.partial_word == kNoLetters;
    const History& history = state.histories[beam.history];
    const NodeId first_words = no_open_word && beam.history != kNoWords ? history.parent : beam.history;
    const NodeId last_word = no_open_word ? history.edge : beam.partial_word;
    auto text = std::find_if(texts.begin(), texts.end(), [&](const Text& known) {
      return known.first_words == first_words && known.last_word == last_word;
    });
    if (text == texts.end()) {
      texts.push_back({first_words, last_word, beam.history, score(beam), beam.path_score, &beam});
      text = texts.end() - 1;
    } else {
      text->score = log_add(score(beam), text->score);
      if (beam.path_score > text->path_score) {
        text->path_score = beam.path_score;
        text->best_beam = &beam;
      }
    }
    text->ends_in_separator = no_open_word;  // of the last beam, as in pyctcdecode
  }
  return texts;
}

// Sorts texts, best first, then moves the best one that begins with the committed words to the front.
void rank(const State& state, std::vector<Text>& texts) {
  std::stable_sort(texts.begin(), texts.end(),
                   [](const Text& left, const Text& right) { return left.score > right.score; });
  const auto first = std::find_if(texts.begin(), texts.end(), [&](const Text& text) {
    return state.starts_with(text.history, state.committed);
  });
  std::rotate(texts.begin(), first, first + 1);
}

bool at_same_time(const PathWord& left, const PathWord& right) {
  return left.start < right.end + kTimeToleranceFrames && right.start < left.end + kTimeToleranceFrames;
}

// Adds `probability` to the posteriors of those `words` that the best path of `beam` has at the same time.
void add_to_posteriors(const State& state, const Beam& beam, double probability,
                       const std::vector<PathWord>& words, std::vector<double>& posteriors) {
  std::vector<bool> matched(words.size(), false);
  std::size_t last = words.size();  // words from here on are later than all that remain on the path
  ReversePathWords path(state, beam);
  for (PathWord word; path.next(word);) {
    while (last > 0 && words[last - 1].start >= word.end + kTimeToleranceFrames) --last;
    bool is_shared = false;
    for (std::size_t i = last; i-- > 0;) {
      if (words[i].node == word.node && word.node != kNoNode) {
        std::fill(matched.begin(), matched.begin() + i + 1, true);
        is_shared = true;
        break;
      }
      if (words[i].end + kTimeToleranceFrames <= word.start) break;
    }
    if (is_shared) break;
    for (std::size_t i = last; i-- > 0;) {
      if (words[i].end + kTimeToleranceFrames <= word.start) break;
      if (words[i].spelling == word.spelling && at_same_time(words[i], word)) matched[i] = true;
    }
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (matched[i]) posteriors[i] += probability;
  }
}

// The first `count` texts with words, times and posteriors.
std::vector<NBestEntry> nbest_entries(const State& state, const std::vector<Text>& texts, std::size_t count) {
  double best = texts[0].score;
  for (const Text& text : texts) best = std::max(best, text.score);
  std::vector<double> weights;
  double total = 0.0;
  for (const Text& text : texts) {
    weights.push_back(std::exp(text.score - best));
    total += weights.back();
  }
  std::vector<NBestEntry> entries;
  for (std::size_t at = 0; at < std::min(count, texts.size()); ++at) {
    const Beam& beam = *texts[at].best_beam;
    const std::vector<PathWord> words = path_words(state, beam);
    std::vector<double> posteriors(words.size(), 0.0);
    for (std::size_t other = 0; other < texts.size(); ++other) {
      const double probability = weights[other] / total;
      if (probability < kMinProbability) continue;
      if (other == at) {
        for (double& posterior : posteriors) posterior += probability;
      } else {
        add_to_posteriors(state, *texts[other].best_beam, probability, words, posteriors);
      }
    }
    NBestEntry entry{{}, texts[at].score + state.blank_log_prob};
    for (std::size_t i = 0; i < words.size(); ++i) {
      entry.words.push_back({state.word_text(words[i].spelling), timed_tokens(state, beam, words[i]),
                             std::min(1.0, posteriors[i])});
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace

std::vector<NBestEntry> partial_nbest(const State& state, std::size_t count) {
  std::vector<Text> texts = merge_by_text(state, [](const Beam& beam) { return beam.total; });
  rank(state, texts);
  return nbest_entries(state, texts, count);
}

std::vector<NBestEntry> final_nbest(const Search& search, State state, std::size_t count,
                                    bool end_of_sentence) {
  std::vector<Text> texts = merge_by_text(state, [](const Beam& beam) { return beam.score; });
  for (Text& text : texts) {
    if (text.last_word != kNoLetters) text.history = search.extend(state, text.first_words, text.last_word);
    search.score_with_lm(state, text.history);
    const bool empty_word = search.config.charge_empty_last_word && text.ends_in_separator;
    text.score += search.final_score(state, text.history, end_of_sentence, empty_word);
  }
  rank(state, texts);
  const double threshold = texts[0].score + search.config.beam_prune_log_prob;
  const auto is_pruned = [&](const Text& text) { return !(text.score >= threshold); };
  texts.erase(std::remove_if(texts.begin() + 1, texts.end(), is_pruned), texts.end());
  return nbest_entries(state, texts, count);
}

}  // namespace streamasr
