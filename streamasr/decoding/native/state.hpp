// A beam search as it stands between two frames: a value, everything in it numbered, nothing shared but the
// language model's states and the hotwords, which never change.
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

// The letters of a word, open or finished; the root has none. Where they lead in the two tries is kept beside.
struct Spelling : TreeNode {  // edge: the last letter
  std::uint32_t letters = 0;
  std::uint32_t listed = Trie::kNone;   // node of the lexicon; kNone once no listed word begins so
  std::uint32_t hotword = Trie::kNone;  // node of the hotwords' first words; kNone likewise
  LanguageModel::Word word = LanguageModel::kUnasked;  // what the model knows the whole word as
};

inline constexpr NodeId kNoLetters = PrefixTree<Spelling>::kRoot;

// Finished words and what they are worth (natural logs).
struct Context : TreeNode {  // edge: the Spelling of the last word, which it holds
  std::uint32_t words = 0;
  bool scored = true;  // whether the language model has been asked
  LmStateRef lm_state;
  double lm_score = 0.0;
  HotwordState heard;
  double score = 0.0;  // what the search adds to the acoustic score
};

// A token on a path, with the frames in which it was held, [start, end), and its best log-prob. Frames count
// from where the search began.
struct Spoken : Node {
  std::int32_t start = 0;
  std::int32_t end = 0;
  double peak = 0.0;
  std::int32_t length = 1;  // of the path up to here, in tokens
  bool ends_word = false;
};

// All paths that spell one text and end in one token, and the best one of them.
struct Beam {
  NodeId context = 0;
  NodeId part = 0;     // the word being spelt; the root after a separator
  std::int32_t token;  // of the last frame; blank at the start
  double score = 0.0;       // log probability of all the paths together
  double path_score = 0.0;  // log probability of the best one
  double part_score = 0.0;  // what `part` is worth so far
  double total = 0.0;       // score, and what context and part are worth: by this beams compete
  // The best path: its tokens but the last, and the last one while its word is open.
  NodeId spoken = kNoNode;
  bool open = false;
  std::int32_t start = 0;
  std::int32_t end = 0;
  double peak = 0.0;
};

struct State {
  State(std::int32_t blank, std::shared_ptr<const Hotwords> hotwords, Spelling no_letters, Context no_words,
        std::int64_t origin)
      : spellings(std::move(no_letters)),
        contexts(std::move(no_words)),
        origin(origin),
        hotwords(std::move(hotwords)) {
    Beam silence;
    silence.token = blank;
    silence.total = contexts[0].score;
    beams.push_back(silence);
    hold(silence);
    contexts.hold(committed);
  }

  std::vector<Beam> beams;  // best first, never empty
  PrefixTree<Spelling> spellings;
  PrefixTree<Context> contexts;
  Pool<Spoken> spoken;
  double offset = 0.0;   // log probability of frames of nothing but blank; belongs to every beam alike
  bool resting = true;   // whether every beam ends in blank, so that one more blank changes none of them
  std::int64_t origin;   // frames of the stream that went before
  std::int32_t frames = 0;         // frames heard since
  std::int32_t speech_start = -1;  // the first word's first frame, when the best beam first had a word
  NodeId committed = 0;  // the context with which every reading begins from now on
  NodeId trunk = kNoNode;  // a token that every best path passed, the last one when that was last looked for
  std::shared_ptr<const Hotwords> hotwords;

  void hold(const Beam& beam) {
    contexts.hold(beam.context);
    spellings.hold(beam.part);
    spoken.hold(beam.spoken);
  }
  void drop_context(NodeId id) {
    contexts.drop(id, [&](NodeId, const Context& going) { spellings.drop(going.edge); });
  }
  void drop(const Beam& beam) {
    drop_context(beam.context);
    spellings.drop(beam.part);
    spoken.drop(beam.spoken);
  }

  // The tokens of a path up to `id`.
  std::int32_t length(NodeId id) const { return id == kNoNode ? 0 : spoken[id].length; }

  // Tokens behind the trunk, those that several paths share counted once.
  std::size_t open_tokens() const { return spoken.size() - static_cast<std::size_t>(length(trunk)); }

  // The token of a path with which it has `length` tokens; the path's last one if it has fewer.
  NodeId cut(NodeId id, std::int32_t to) const {
    while (length(id) > to) id = spoken[id].before;
    return id;
  }

  // Whether the words of `context` begin with those of `beginning`.
  bool extends(NodeId context, NodeId beginning) const {
    while (contexts[context].words > contexts[beginning].words) context = contexts[context].before;
    return context == beginning;
  }

  std::u32string letters(NodeId spelling) const {
    std::u32string text(spellings[spelling].letters, U'\0');
    for (std::size_t at = text.size(); at > 0; spelling = spellings[spelling].before) {
      text[--at] = spellings[spelling].edge;
    }
    return text;
  }

  std::string text(NodeId spelling) const {
    std::string utf8;
    for (const char32_t letter : letters(spelling)) append_utf8(utf8, letter);
    return utf8;
  }

  // The words of a context, one space between.
  std::string words(NodeId context) const {
    if (context == 0) return {};
    std::string before = words(contexts[context].before);
    if (!before.empty()) before.push_back(' ');
    return before + text(contexts[context].edge);
  }

  // Gives back memory that is not used: a state outlives the frames that made it grow.
  void shrink_to_fit() {
    beams.shrink_to_fit();
    spellings.shrink_to_fit();
    contexts.shrink_to_fit();
    spoken.shrink_to_fit();
  }

  std::size_t bytes() const {
    return sizeof(State) + beams.capacity() * sizeof(Beam) + spellings.bytes() + contexts.bytes() + spoken.bytes();
  }
};

}  // namespace streamasr
