#include "readings.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace streamasr {

namespace {

constexpr std::int32_t kTimeSlackFrames = 5;  // words this near each other are said at the same time
constexpr double kNegligibleShare = 1e-3;     // readings less probable do not count for shares

// One text, with the beams that spell it summed.
struct Text {
  NodeId before;   // its words but the last …
  NodeId last;     // … and that one, open or finished
  NodeId context;  // its finished words; all of them if the reading is final
  double score;
  double path_score;
  const Beam* beam;  // of the best path
  bool charged = false;
};

// A word on a path. Two paths share a word, and all before it, if they share the node of its last token.
struct PathWord {
  NodeId text;
  NodeId node;  // of its last token, kNoNode while it is open
  NodeId last;  // of its last token that is a node
  std::int32_t start;
  std::int32_t end;
};

// Walks the words of a path from the last one to the first.
class Backwards {
 public:
  Backwards(const State& state, const Beam& beam)
      : state_(state), beam_(&beam), context_(beam.context), node_(beam.spoken) {}

  bool next(PathWord& word) {
    const bool open = std::exchange(beam_open_, false) && beam_->open;
    if (!open && node_ == kNoNode) return false;
    word.node = open ? kNoNode : node_;
    word.text = open ? beam_->part : state_.contexts[context_].edge;
    if (!open) context_ = state_.contexts[context_].before;
    word.end = open ? beam_->end : state_.spoken[node_].end;
    word.start = open ? beam_->start : state_.spoken[node_].start;
    word.last = node_;
    if (!open) node_ = state_.spoken[node_].before;
    for (; node_ != kNoNode && !state_.spoken[node_].ends_word; node_ = state_.spoken[node_].before) {
      word.start = state_.spoken[node_].start;
    }
    return true;
  }

 private:
  const State& state_;
  const Beam* beam_;
  bool beam_open_ = true;
  NodeId context_;
  NodeId node_;
};

std::vector<PathWord> words_of(const State& state, const Beam& beam) {
  std::vector<PathWord> words;
  Backwards path(state, beam);
  for (PathWord word; path.next(word);) words.push_back(word);
  std::reverse(words.begin(), words.end());
  return words;
}

std::vector<HeardToken> tokens_of(const State& state, const Beam& beam, const PathWord& word) {
  std::vector<HeardToken> tokens;
  const auto add = [&](const auto& token) {
    tokens.push_back({state.origin + token.start, state.origin + token.end, token.peak});
  };
  if (word.node == kNoNode) add(beam);
  for (NodeId id = word.last; id != kNoNode; id = state.spoken[id].before) {
    if (state.spoken[id].ends_word && id != word.node) break;
    add(state.spoken[id]);
  }
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

// The texts of the beams, in the order of the best beam of each.
template <class Score>
std::vector<Text> texts_of(const State& state, const Score& score) {
  std::vector<Text> texts;
  for (const Beam& beam : state.beams) {
    const bool between = beam.part == 0;
    const NodeId before = between && beam.context != 0 ? state.contexts[beam.context].before : beam.context;
    const NodeId last = between ? state.contexts[beam.context].edge : beam.part;
    auto text = std::find_if(texts.begin(), texts.end(),
                             [&](const Text& known) { return known.before == before && known.last == last; });
    if (text == texts.end()) {
      texts.push_back({before, last, beam.context, score(beam), beam.path_score, &beam});
      text = texts.end() - 1;
    } else {
      text->score = log_add(score(beam), text->score);
      if (beam.path_score > text->path_score) {
        text->path_score = beam.path_score;
        text->beam = &beam;
      }
    }
    text->charged = between;
  }
  return texts;
}

// Best first, but before all others the best one that begins with the committed words.
void rank(const State& state, std::vector<Text>& texts) {
  std::stable_sort(texts.begin(), texts.end(),
                   [](const Text& one, const Text& other) { return one.score > other.score; });
  const auto first = std::find_if(texts.begin(), texts.end(), [&](const Text& text) {
    return state.extends(text.context, state.committed);
  });
  std::rotate(texts.begin(), first, first + 1);
}

bool same_time(const PathWord& one, const PathWord& other) {
  return one.start < other.end + kTimeSlackFrames && other.start < one.end + kTimeSlackFrames;
}

// Adds `share` to each of `words` that the path of `beam` says too, at the same time.
void add_support(const State& state, const Beam& beam, double share, const std::vector<PathWord>& words,
                 std::vector<double>& support) {
  std::vector<bool> said(words.size(), false);
  std::size_t last = words.size();  // words from here on come later than what is still to be walked
  Backwards path(state, beam);
  for (PathWord word; path.next(word);) {
    while (last > 0 && words[last - 1].start >= word.end + kTimeSlackFrames) --last;
    bool shared = false;
    for (std::size_t place = last; place-- > 0;) {
      if (words[place].node == word.node && word.node != kNoNode) {
        std::fill(said.begin(), said.begin() + place + 1, true);
        shared = true;
        break;
      }
      if (words[place].end + kTimeSlackFrames <= word.start) break;
    }
    if (shared) break;
    for (std::size_t place = last; place-- > 0;) {
      if (words[place].end + kTimeSlackFrames <= word.start) break;
      if (words[place].text == word.text && same_time(words[place], word)) said[place] = true;
    }
  }
  for (std::size_t place = 0; place < words.size(); ++place) {
    if (said[place]) support[place] += share;
  }
}

std::vector<Reading> readings_of(const State& state, const std::vector<Text>& texts, std::size_t count) {
  double best = texts[0].score;
  for (const Text& text : texts) best = std::max(best, text.score);
  std::vector<double> shares;
  double total = 0.0;
  for (const Text& text : texts) {
    shares.push_back(std::exp(text.score - best));
    total += shares.back();
  }
  std::vector<Reading> readings;
  for (std::size_t at = 0; at < std::min(count, texts.size()); ++at) {
    const Beam& beam = *texts[at].beam;
    const std::vector<PathWord> words = words_of(state, beam);
    std::vector<double> support(words.size(), 0.0);
    for (std::size_t other = 0; other < texts.size(); ++other) {
      const double share = shares[other] / total;
      if (share < kNegligibleShare) continue;
      if (other == at) {
        for (double& shared : support) shared += share;
      } else {
        add_support(state, *texts[other].beam, share, words, support);
      }
    }
    Reading reading{{}, texts[at].score + state.offset};
    for (std::size_t place = 0; place < words.size(); ++place) {
      reading.words.push_back({state.text(words[place].text), tokens_of(state, beam, words[place]),
                               std::min(1.0, support[place])});
    }
    readings.push_back(std::move(reading));
  }
  return readings;
}

}  // namespace

std::vector<Reading> read_open(const State& state, std::size_t count) {
  std::vector<Text> texts = texts_of(state, [](const Beam& beam) { return beam.total; });
  rank(state, texts);
  return readings_of(state, texts, count);
}

std::vector<Reading> read_final(const Search& search, State state, std::size_t count, bool end_of_sentence) {
  std::vector<Text> texts = texts_of(state, [](const Beam& beam) { return beam.score; });
  for (Text& text : texts) {
    if (text.last != 0) text.context = search.extend(state, text.before, text.last);
    search.score(state, text.context);
    const bool charged = search.config.charge_empty_last_word && text.charged;
    text.score += search.score_end(state, text.context, end_of_sentence, charged);
  }
  rank(state, texts);
  const double least = texts[0].score + search.config.beam_prune_log_prob;
  const auto hopeless = [&](const Text& text) { return !(text.score >= least); };
  texts.erase(std::remove_if(texts.begin() + 1, texts.end(), hopeless), texts.end());
  return readings_of(state, texts, count);
}

}  // namespace streamasr
