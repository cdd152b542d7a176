// List the n best texts of a search, with the frames of their tokens and word posteriors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search.hpp"

namespace streamasr {

struct TimedToken {
  std::int64_t start;  // frames of the stream, [start, end)
  std::int64_t end;
  double max_log_prob;  // the highest in those frames
};

struct TimedWord {
  std::string text;
  std::vector<TimedToken> tokens;  // of the best path, never empty
  double posterior;  // probability of the texts with this word at this time, relative to all texts

  double mean_log_prob() const {
    double sum = 0.0;
    for (const TimedToken& token : tokens) sum += token.max_log_prob;
    return sum / static_cast<double>(tokens.size());
  }
};

struct NBestEntry {
  std::vector<TimedWord> words;
  double score;  // natural log
};

// The n-best list of a search that goes on. Open words are listed as they are spelt so far. The first entry
// is the best one that begins with the committed words.
std::vector<NBestEntry> partial_nbest(const State& state, std::size_t count);

// The n-best list of a search that ends: open words are finished and scored, then the end of the sentence.
// Entries more than beam_prune_log_prob below the first one are left out.
std::vector<NBestEntry> final_nbest(const Search& search, State state, std::size_t count,
                                    bool end_of_sentence);

}  // namespace streamasr
