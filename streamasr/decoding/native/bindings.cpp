// Bind the native core to Python. Frames are decoded without the GIL; a search takes it only to query KenLM,
// which is called through its Python package.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>

#include "nbest.hpp"
#include "stream_batch.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace streamasr {
namespace {

using ReleasesGil = nb::call_guard<nb::gil_scoped_release>;
using Matrix = nb::ndarray<nb::ro, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

class KenlmState final : public LmState {
 public:
  explicit KenlmState(nb::object state) : state(std::move(state)) {}
  ~KenlmState() override {
    const nb::gil_scoped_acquire gil;
    state.reset();
  }
  nb::object state;
};

// A kenlm.Model. Equal states become one object while they are cached, so that they can be compared by
// address.
class KenlmModel final : public NgramModel {
 public:
  KenlmModel(nb::object base_score, nb::object new_state, nb::object contains, std::size_t cached_states)
      : base_score_(std::move(base_score)),
        new_state_(std::move(new_state)),
        contains_(std::move(contains)),
        states_(cached_states) {}
  ~KenlmModel() override {
    const nb::gil_scoped_acquire gil;
    base_score_.reset();
    new_state_.reset();
    contains_.reset();
  }

  Score score(const LmState& state, const std::string& word) override {
    const nb::gil_scoped_acquire gil;
    nb::object next = new_state_();
    const auto log10_prob =
        nb::cast<double>(base_score_(static_cast<const KenlmState&>(state).state, word, next));
    return {log10_prob, unique_state(std::move(next))};
  }

  bool contains(const std::string& word) override {
    const nb::gil_scoped_acquire gil;
    return nb::cast<bool>(contains_(word));
  }

  LmStateRef unique_state(nb::object state) {
    if (const LmStateRef* cached = states_.find(state)) return *cached;
    const LmStateRef added(new KenlmState(state));
    states_.insert(std::move(state), added);
    return added;
  }

 private:
  struct Hash {
    std::size_t operator()(const nb::object& state) const {
      return static_cast<std::size_t>(nb::hash(state));
    }
  };
  struct Equal {
    bool operator()(const nb::object& left, const nb::object& right) const {
      return left.is(right) || left.equal(right);
    }
  };

  nb::object base_score_, new_state_, contains_;
  LruCache<nb::object, LmStateRef, Hash, Equal> states_;  // guarded by the GIL
};

std::shared_ptr<LanguageModel> make_language_model(nb::object base_score, nb::object new_state,
                                                   nb::object contains, nb::object start, int order,
                                                   const std::vector<std::string>& words,
                                                   std::size_t cache_entries) {
  std::vector<std::u32string> spellings;
  spellings.reserve(words.size());
  for (const std::string& word : words) spellings.push_back(code_points(word));
  auto model = std::make_shared<KenlmModel>(std::move(base_score), std::move(new_state), std::move(contains),
                                            cache_entries);
  LmStateRef start_state = model->unique_state(std::move(start));
  return std::make_shared<LanguageModel>(std::move(model), Trie(std::move(spellings)), std::move(start_state),
                                         order, cache_entries);
}

std::shared_ptr<Hotwords> make_hotwords(const std::vector<std::pair<std::string, double>>& hotwords) {
  std::vector<std::pair<std::u32string, double>> spellings;
  for (const auto& [text, boost] : hotwords) spellings.emplace_back(code_points(text), boost);
  return std::make_shared<Hotwords>(spellings);
}

std::shared_ptr<Search> make_search(const std::vector<std::string>& pieces, std::vector<bool> starts_word,
                                    std::int32_t blank, std::optional<std::int32_t> separator,
                                    std::shared_ptr<LanguageModel> lm, SearchConfig config) {
  Tokens tokens{{}, std::move(starts_word), blank, separator.value_or(-1)};
  for (const std::string& piece : pieces) tokens.pieces.push_back(code_points(piece));
  return std::make_shared<Search>(std::move(tokens), std::move(lm), config);
}

State with_hotwords(const Search& search, State state, std::shared_ptr<Hotwords> hotwords) {
  search.set_hotwords(state, std::move(hotwords));
  return state;
}

std::optional<State> commit(const Search& search, State state, const std::string& text) {
  for (const Beam& beam : state.beams) {
    for (NodeId history = beam.history;; history = state.histories[history].parent) {
      if (state.history_text(history) == text) {
        search.commit(state, history);
        return state;
      }
      if (history == kNoWords) break;
    }
  }
  return std::nullopt;
}

// The words of each rival after the committed ones.
std::vector<std::vector<std::string>> rivals(const Search& search, const State& state,
                                             const CommitRules& rules) {
  std::vector<std::vector<std::string>> texts;
  for (NodeId history : search.rivals(state, rules)) {
    std::vector<std::string> words;
    for (; state.histories[history].num_words > state.histories[state.committed].num_words;
         history = state.histories[history].parent) {
      words.push_back(state.word_text(state.histories[history].edge));
    }
    std::reverse(words.begin(), words.end());
    texts.push_back(std::move(words));
  }
  return texts;
}

// Commits the words that are stable after rescoring, and returns the best text before others are dropped;
// none if there are no new stable words.
std::optional<std::pair<State, NBestEntry>> commit_rescored(const Search& search, State state,
                                                            const CommitRules& rules,
                                                            const std::vector<double>& gains) {
  const nb::gil_scoped_release no_gil;
  Rescored rescored{search.rivals(state, rules), gains};
  if (rescored.histories.size() != gains.size()) {
    throw std::invalid_argument("expected " + std::to_string(rescored.histories.size()) + " gains, got " +
                                std::to_string(gains.size()));
  }
  const NodeId stable = search.stable_history(state, rules, rescored);
  if (state.histories[stable].num_words <= state.histories[state.committed].num_words) return std::nullopt;
  search.set_committed(state, stable);
  NBestEntry best = std::move(partial_nbest(state, 1)[0]);
  search.drop_uncommitted(state);
  return std::pair(std::move(state), std::move(best));
}

State step(const Search& search, State state, const Matrix& log_probs_TV) {
  ScratchBuffers scratch;
  for (std::size_t frame = 0; frame < log_probs_TV.shape(0); ++frame) {
    const std::size_t offset = frame * log_probs_TV.shape(1);
    if (log_probs_TV.dtype() == nb::dtype<double>()) {
      search.prune_frame(static_cast<const double*>(log_probs_TV.data()) + offset, scratch.frame);
    } else {
      search.prune_frame(static_cast<const float*>(log_probs_TV.data()) + offset, scratch.frame);
    }
    search.advance(state, scratch.frame, scratch);
  }
  state.shrink_to_fit();
  return state;
}

// State, next frame, endpoint decision, whether there are new stable words.
using BatchResult = std::tuple<State, std::size_t, EndpointDecision, bool>;

std::vector<BatchResult> step_batch(const Search& search, const std::vector<const State*>& states,
                                    const std::vector<Matrix>& log_probs,
                                    const std::vector<std::size_t>& next_frames,
                                    const std::vector<EndpointRules>& rules,
                                    const std::vector<double>& commit_margins, std::int32_t commit_interval,
                                    bool commits, std::size_t threads) {
  const nb::gil_scoped_release no_gil;
  StreamBatch batch(search, commit_interval, commits);
  for (std::size_t i = 0; i < states.size(); ++i) {
    batch.jobs.push_back({*states[i], log_probs[i].data(), log_probs[i].dtype() == nb::dtype<double>(),
                          log_probs[i].shape(0), next_frames[i], rules[i], commit_margins[i]});
  }
  batch.decode(threads);
  std::vector<BatchResult> results;
  for (DecodeJob& job : batch.jobs) {
    job.state.shrink_to_fit();
    results.emplace_back(std::move(job.state), job.next_frame, job.decision, job.stable);
  }
  return results;
}

using BeamView = std::tuple<std::string, std::string, std::int32_t, double, double, double, double>;

std::vector<BeamView> beam_views(const State& state) {
  std::vector<BeamView> views;
  for (const Beam& beam : state.beams) {
    views.emplace_back(state.history_text(beam.history), state.word_text(beam.partial_word), beam.last_token,
                       beam.score, beam.path_score, state.histories[beam.history].score,
                       beam.partial_word_score);
  }
  return views;
}

}  // namespace
}  // namespace streamasr

NB_MODULE(_native, m) {
  using namespace streamasr;
  nb::set_leak_warnings(false);  // caches live as long as the process
  m.doc() = "The native core of the decoder; streamasr.decoding wraps it.";

  nb::class_<LmStateRef>(m, "LmState");
  nb::class_<LmWeights>(m, "LmWeights")
      .def(nb::init<double, double, double>(), "alpha"_a, "beta"_a, "unk_score_offset"_a);
  nb::class_<LanguageModel>(m, "LanguageModel")
      .def(nb::new_(&make_language_model), "base_score"_a, "new_state"_a, "contains"_a, "start"_a, "order"_a,
           "words"_a, "cache_entries"_a)
      .def_prop_ro("start", [](const LanguageModel& lm) { return lm.start; })
      .def_ro("order", &LanguageModel::order)
      .def_prop_ro("cached_entries", &LanguageModel::cached_entries, ReleasesGil())
      .def_prop_ro("lexicon_bytes", [](const LanguageModel& lm) { return lm.lexicon.bytes(); })
      .def(
          "score",
          [](LanguageModel& lm, const LmWeights& weights, const LmStateRef& state, const std::string& word) {
            const LazyText spell = [&] { return word; };
            const std::uint32_t root = lm.lexicon.empty() ? Trie::kNone : Trie::kRoot;
            return lm.score(weights, state, lm.word_id(lm.lexicon.walk(root, code_points(word)), spell),
                            spell);
          },
          "weights"_a, "state"_a, "word"_a, ReleasesGil())
      .def("score_end", &LanguageModel::score_end, "weights"_a, "state"_a, ReleasesGil())
      .def(
          "score_partial",
          [](const LanguageModel& lm, const LmWeights& weights, const std::string& part) {
            const std::u32string letters = code_points(part);
            const std::uint32_t root = lm.lexicon.empty() ? Trie::kNone : Trie::kRoot;
            return lm.score_partial(weights, lm.lexicon.walk(root, letters), letters.size());
          },
          "weights"_a, "part"_a);

  nb::class_<Hotwords>(m, "Hotwords")
      .def(nb::new_(&make_hotwords), "hotwords"_a)
      .def_prop_ro("bytes", &Hotwords::bytes)
      .def("score", &Hotwords::score, "text"_a)
      .def("score_partial", &Hotwords::score_partial, "text"_a, "part"_a);

  nb::class_<State>(m, "State")
      .def_prop_ro("frame", [](const State& state) { return state.start_frame + state.num_frames; })
      .def_prop_ro("speech_start",
                   [](const State& state) -> std::optional<std::int64_t> {
                     if (state.speech_start < 0) return std::nullopt;
                     return state.start_frame + state.speech_start;
                   })
      .def_prop_ro("speech_end",
                   [](const State& state) -> std::optional<std::int64_t> {
                     if (state.speech_end() < 0) return std::nullopt;
                     return state.start_frame + state.speech_end();
                   })
      .def_prop_ro("hotwords",
                   [](const State& state) { return std::const_pointer_cast<Hotwords>(state.hotwords); })
      .def_prop_ro("committed", [](const State& state) { return state.history_text(state.committed); })
      .def_prop_ro("committed_words",
                   [](const State& state) { return state.histories[state.committed].num_words; })
      .def_prop_ro("blank_log_prob", [](const State& state) { return state.blank_log_prob; })
      .def_prop_ro("beams", &beam_views)
      .def_prop_ro("divergent_tokens", &State::divergent_tokens)
      .def_prop_ro("bytes", &State::bytes);

  nb::class_<TimedToken>(m, "TimedToken")
      .def_ro("start_frame", &TimedToken::start)
      .def_ro("end_frame", &TimedToken::end)
      .def_ro("max_log_prob", &TimedToken::max_log_prob);
  nb::class_<TimedWord>(m, "TimedWord")
      .def_ro("text", &TimedWord::text)
      .def_ro("posterior", &TimedWord::posterior)
      .def_ro("tokens", &TimedWord::tokens)
      .def_prop_ro("start_frame", [](const TimedWord& word) { return word.tokens.front().start; })
      .def_prop_ro("end_frame", [](const TimedWord& word) { return word.tokens.back().end; })
      .def_prop_ro("mean_log_prob", &TimedWord::mean_log_prob);
  nb::class_<NBestEntry>(m, "NBestEntry")
      .def_ro("words", &NBestEntry::words)
      .def_ro("score", &NBestEntry::score);

  nb::enum_<EndpointDecision>(m, "EndpointDecision")
      .value("CONTINUE", EndpointDecision::kContinue)
      .value("END", EndpointDecision::kEnd)
      .value("SPLIT", EndpointDecision::kSplit)
      .value("RESET", EndpointDecision::kReset);
  nb::class_<EndOdds>(m, "EndOdds")
      .def(nb::init<double, double, double>(), "bias"_a, "silence"_a, "sentence"_a)
      .def("log_odds", &EndOdds::log_odds, "trailing_silence"_a, "sentence_end_log_prob"_a);
  nb::class_<EndpointRules>(m, "EndpointRules")
      .def(nb::init<std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t,
                    EndOdds, double>(),
           "min_silence_frames"_a, "max_silence_frames"_a, "start_silence_frames"_a, "max_utterance_frames"_a,
           "max_overrun_frames"_a, "pause_frames"_a, "end_odds"_a, "min_log_odds"_a)
      .def_ro("min_silence_frames", &EndpointRules::min_silence_frames)
      .def_ro("max_silence_frames", &EndpointRules::max_silence_frames)
      .def_ro("start_silence_frames", &EndpointRules::start_silence_frames)
      .def_ro("max_utterance_frames", &EndpointRules::max_utterance_frames)
      .def_ro("max_overrun_frames", &EndpointRules::max_overrun_frames)
      .def_ro("pause_frames", &EndpointRules::pause_frames)
      .def_ro("end_odds", &EndpointRules::end_odds)
      .def("decide", &EndpointRules::decide, "utterance_frames"_a, "trailing_silence"_a.none(),
           "at_word_boundary"_a, "silence"_a, "sentence_end_log_prob"_a);

  nb::class_<SearchConfig>(m, "SearchConfig")
      .def(nb::init<std::size_t, double, double, bool, bool, std::size_t, LmWeights>(), "beam_width"_a,
           "beam_prune_log_prob"_a, "token_min_log_prob"_a, "prune_history"_a, "charge_empty_last_word"_a,
           "max_path_tokens"_a, "weights"_a);
  nb::class_<CommitRules>(m, "CommitRules")
      .def(nb::init<double, double, std::size_t>(), "margin"_a, "rival_margin"_a, "max_rivals"_a);
  nb::class_<Search>(m, "Search")
      .def(nb::new_(&make_search), "pieces"_a, "starts_word"_a, "blank"_a, "separator"_a.none(),
           "lm"_a.none(), "config"_a)
      .def(
          "initial",
          [](const Search& search, std::shared_ptr<Hotwords> hotwords, std::int64_t start_frame,
             const std::vector<std::string>& previous_words) {
            return search.initial(hotwords, start_frame, previous_words);
          },
          "hotwords"_a, "start_frame"_a, "previous_words"_a, ReleasesGil())
      .def("with_hotwords", &with_hotwords, "state"_a, "hotwords"_a, ReleasesGil())
      .def("commit", &commit, "state"_a, "text"_a, ReleasesGil())
      .def(
          "stable_text",
          [](const Search& search, const State& state, double margin) {
            return state.history_text(search.stable_history(state, margin));
          },
          "state"_a, "margin"_a)
      .def("sentence_end_log_prob", &Search::sentence_end_log_prob, "state"_a, ReleasesGil())
      .def("step", &step, "state"_a, "log_probs_TV"_a, ReleasesGil())
      .def("step_batch", &step_batch, "states"_a, "log_probs"_a, "next_frames"_a, "rules"_a,
           "commit_margins"_a, "commit_interval"_a, "commits"_a, "threads"_a)
      .def("rivals", &rivals, "state"_a, "rules"_a, ReleasesGil())
      .def("commit_rescored", &commit_rescored, "state"_a, "rules"_a, "gains"_a)
      .def(
          "partial_nbest",
          [](const Search&, const State& state, std::size_t count) { return partial_nbest(state, count); },
          "state"_a, "count"_a, ReleasesGil())
      .def("final_nbest", &final_nbest, "state"_a, "count"_a, "end_of_sentence"_a, ReleasesGil());
}
