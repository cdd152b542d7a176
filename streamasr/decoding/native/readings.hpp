// From beams to readings: distinct texts, best first, with the frames of their tokens and the share of the
// readings' probability that says each word at its time. Searches nothing.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "search.hpp"

namespace streamasr {

struct HeardToken {
  std::int64_t start;  // frames of the stream, [start, end)
  std::int64_t end;
  double log_prob;     // at its best frame
};

struct HeardWord {
  std::string text;
  std::vector<HeardToken> tokens;  // on the best path, never empty
  double share;                    // of the readings' probability, 0 to 1

  double mean_log_prob() const {
    double sum = 0.0;
    for (const HeardToken& token : tokens) sum += token.log_prob;
    return sum / static_cast<double>(tokens.size());
  }
};

struct Reading {
  std::vector<HeardWord> words;
  double score;  // natural log
};

// The `count` best readings of a search that goes on; the open word stands as it is spelt so far. The first is
// the best one that begins with the committed words.
std::vector<Reading> read_open(const State& state, std::size_t count);

// Likewise of a search that ends: open words are finished and scored, then the sentence's end. Readings
// further than beam_prune_log_prob below the first are left out.
std::vector<Reading> read_final(const Search& search, State state, std::size_t count, bool end_of_sentence);

}  // namespace streamasr
