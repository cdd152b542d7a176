// The state of a beam search between two frames. It is a value: a copy shares only language model states and
// hotwords, which never change.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "hotwords.hpp"
#include "language_model.hpp"
#include "prefix_tree.hpp"
#include "unicode.hpp"

namespace streamasr {

// The letters of a word, open or finished; the root has none. A node also stores where its letters lead in
// the tries of the lexicon and of the hotwords.
struct Spelling : TreeNode {  // edge: the last letter
  std::uint32_t num_letters = 0;
  std::uint32_t lexicon_node = Trie::kNone;                 // kNone if no word of the lexicon begins so
  std::uint32_t hotword_node = Trie::kNone;                 // likewise for the first words of hotwords
  LanguageModel::WordId word = LanguageModel::kUnresolved;  // of the letters as a whole word
};

inline constexpr NodeId kNoLetters = PrefixTree<Spelling>::kRoot;

// Finished words and their scores (natural log); the root has none.
struct History : TreeNode {  // edge: the Spelling of the last word, which the node references
  std::uint32_t num_words = 0;
  bool lm_scored = true;  // whether the language model has scored the last word
  LmStateRef lm_state;
  double lm_score = 0.0;
  HotwordState hotwords;
  double score = 0.0;  // language model and hotwords: what the search adds to the acoustic score
};

inline constexpr NodeId kNoWords = PrefixTree<History>::kRoot;

// A finished token of a path: the frames [start, end) that emit it and its highest log-prob in them. Frames
// count from the beginning of the search.
struct PathToken : Node {
  std::int32_t start = 0;
  std::int32_t end = 0;
  double max_log_prob = 0.0;
  std::int32_t path_length = 1;  // tokens of the path up to and including this one
  bool ends_word = false;
};

// All CTC paths that spell one text and end in one token, and the best of them.
struct Beam {
  NodeId history = kNoWords;
  NodeId partial_word = kNoLetters;  // the open word; no letters after a separator
  std::int32_t last_token;           // of the last frame; blank at the start
  double score = 0.0;                // log-prob of all the paths together
  double path_score = 0.0;           // log-prob of the best path
  double partial_word_score = 0.0;
  double total = 0.0;  // score + history's score + partial_word_score; beams compete by it
  // The best path: its finished tokens and, while a word is open, the token that the path is in.
  NodeId path = kNoNode;  // the last finished token
  bool token_open = false;
  std::int32_t start = 0;  // of the open token, as in PathToken
  std::int32_t end = 0;
  double max_log_prob = 0.0;
};

struct State {
  State(std::int32_t blank, std::shared_ptr<const Hotwords> hotwords, Spelling no_letters, History no_words,
        std::int64_t start_frame)
      : spellings(std::move(no_letters)),
        histories(std::move(no_words)),
        start_frame(start_frame),
        hotwords(std::move(hotwords)) {
    Beam empty;
    empty.last_token = blank;
    empty.total = histories[kNoWords].score;
    beams.push_back(empty);
    retain(empty);
    histories.retain(committed);
  }

  std::vector<Beam> beams;  // best first, never empty
  PrefixTree<Spelling> spellings;
  PrefixTree<History> histories;
  NodePool<PathToken> path_tokens;
  double blank_log_prob = 0.0;  // of the frames that were skipped because only blank was possible
  bool ends_in_blank = true;    // whether every beam does, so that one more blank changes none of them
  std::int64_t start_frame;     // frames of the stream before this search
  std::int32_t num_frames = 0;  // frames since
  std::int32_t speech_start =
      -1;                        // first frame of the first word when the best beam first had one; -1 before
  NodeId committed = kNoWords;   // every best hypothesis begins with these words from now on
  NodeId common_path = kNoNode;  // a token that all best paths share, the last one when last computed
  std::shared_ptr<const Hotwords> hotwords;

  void retain(const Beam& beam) {
    histories.retain(beam.history);
    spellings.retain(beam.partial_word);
    path_tokens.retain(beam.path);
  }
  void release_history(NodeId id) {
    histories.release(id, [&](NodeId, const History& freed) { spellings.release(freed.edge); });
  }
  void release(const Beam& beam) {
    release_history(beam.history);
    spellings.release(beam.partial_word);
    path_tokens.release(beam.path);
  }

  // Tokens of the path that ends at `id`.
  std::int32_t path_length(NodeId id) const { return id == kNoNode ? 0 : path_tokens[id].path_length; }

  // Tokens in which the best paths of the beams differ: those after `common_path`, each counted once.
  std::size_t divergent_tokens() const {
    return path_tokens.size() - static_cast<std::size_t>(path_length(common_path));
  }

  // The frame after the last token of the best beam's words; -1 before the first word.
  std::int32_t speech_end() const {
    const Beam& best = beams[0];
    if (best.token_open) return best.end;
    return best.path == kNoNode ? -1 : path_tokens[best.path].end;
  }

  // The first `length` tokens of the path that ends at `id`, or all of them if there are fewer.
  NodeId path_prefix(NodeId id, std::int32_t length) const {
    while (path_length(id) > length) id = path_tokens[id].parent;
    return id;
  }

  // Whether the words of `history` begin with those of `prefix`.
  bool starts_with(NodeId history, NodeId prefix) const {
    while (histories[history].num_words > histories[prefix].num_words) history = histories[history].parent;
    return history == prefix;
  }

  std::u32string letters(NodeId spelling) const {
    std::u32string text(spellings[spelling].num_letters, U'\0');
    for (std::size_t at = text.size(); at > 0; spelling = spellings[spelling].parent) {
      text[--at] = spellings[spelling].edge;
    }
    return text;
  }

  std::string word_text(NodeId spelling) const {
    std::string utf8;
    for (const char32_t letter : letters(spelling)) append_utf8(utf8, letter);
    return utf8;
  }

  // The words of a history with one space between.
  std::string history_text(NodeId history) const {
    if (history == kNoWords) return {};
    std::string text = history_text(histories[history].parent);
    if (!text.empty()) text.push_back(' ');
    return text + word_text(histories[history].edge);
  }

  // Frees unused memory: a state outlives the frames that made it grow.
  void shrink_to_fit() {
    beams.shrink_to_fit();
    spellings.shrink_to_fit();
    histories.shrink_to_fit();
    path_tokens.shrink_to_fit();
  }

  std::size_t bytes() const {
    return sizeof(State) + beams.capacity() * sizeof(Beam) + spellings.bytes() + histories.bytes() +
           path_tokens.bytes();
  }
};

}  // namespace streamasr
