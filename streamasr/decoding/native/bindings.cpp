// The search as Python sees it: values in, values out, no Python held while frames are heard. The n-gram
// model is asked through KenLM's Python package, the only place where a search waits for Python.

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

#include "hearing.hpp"
#include "readings.hpp"

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

// kenlm.Model. Equal states are made one object while they are remembered, so that comparing them is cheap.
class Kenlm final : public Ngrams {
 public:
  Kenlm(nb::object base_score, nb::object new_state, nb::object contains, std::size_t remembered)
      : base_score_(std::move(base_score)),
        new_state_(std::move(new_state)),
        contains_(std::move(contains)),
        states_(remembered) {}
  ~Kenlm() override {
    const nb::gil_scoped_acquire gil;
    base_score_.reset();
    new_state_.reset();
    contains_.reset();
  }

  Answer ask(const LmState& state, const std::string& word) override {
    const nb::gil_scoped_acquire gil;
    nb::object next = new_state_();
    const auto log10_prob = nb::cast<double>(base_score_(static_cast<const KenlmState&>(state).state, word, next));
    return {log10_prob, remember(std::move(next))};
  }

  bool knows(const std::string& word) override {
    const nb::gil_scoped_acquire gil;
    return nb::cast<bool>(contains_(word));
  }

  LmStateRef remember(nb::object state) {
    if (const LmStateRef* known = states_.find(state)) return *known;
    const LmStateRef made(new KenlmState(state));
    states_.insert(std::move(state), made);
    return made;
  }

 private:
  struct Hash {
    std::size_t operator()(const nb::object& state) const { return static_cast<std::size_t>(nb::hash(state)); }
  };
  struct Equal {
    bool operator()(const nb::object& one, const nb::object& other) const {
      return one.is(other) || one.equal(other);
    }
  };

  nb::object base_score_, new_state_, contains_;
  LruCache<nb::object, LmStateRef, Hash, Equal> states_;  // guarded by the GIL
};

std::shared_ptr<LanguageModel> language_model(nb::object base_score, nb::object new_state, nb::object contains,
                                              nb::object start, int order, const std::vector<std::string>& words,
                                              std::size_t cache_entries) {
  std::vector<std::u32string> spelt;
  spelt.reserve(words.size());
  for (const std::string& word : words) spelt.push_back(code_points(word));
  auto kenlm =
      std::make_shared<Kenlm>(std::move(base_score), std::move(new_state), std::move(contains), cache_entries);
  LmStateRef begun = kenlm->remember(std::move(start));
  return std::make_shared<LanguageModel>(std::move(kenlm), Trie(std::move(spelt)), std::move(begun), order,
                                         cache_entries);
}

std::shared_ptr<Hotwords> hotwords(const std::vector<std::pair<std::string, double>>& listed) {
  std::vector<std::pair<std::u32string, double>> spelt;
  for (const auto& [text, boost] : listed) spelt.emplace_back(code_points(text), boost);
  return std::make_shared<Hotwords>(spelt);
}

std::shared_ptr<Search> search(const std::vector<std::string>& pieces, std::vector<bool> starts, std::int32_t blank,
                               std::optional<std::int32_t> separator, std::shared_ptr<LanguageModel> lm,
                               SearchConfig config) {
  Tokens tokens{{}, std::move(starts), blank, separator.value_or(-1)};
  for (const std::string& piece : pieces) tokens.pieces.push_back(code_points(piece));
  return std::make_shared<Search>(std::move(tokens), std::move(lm), config);
}

State with_hotwords(const Search& search, State state, std::shared_ptr<Hotwords> hotwords) {
  search.set_hotwords(state, std::move(hotwords));
  return state;
}

std::optional<State> committed(const Search& search, State state, const std::string& text) {
  for (const Beam& beam : state.beams) {
    for (NodeId context = beam.context;; context = state.contexts[context].before) {
      if (state.words(context) == text) {
        search.commit(state, context);
        return state;
      }
      if (context == 0) break;
    }
  }
  return std::nullopt;
}

State heard(const Search& search, State state, const Matrix& log_probs_TV) {
  Workspace work;
  for (std::size_t frame = 0; frame < log_probs_TV.shape(0); ++frame) {
    const std::size_t at = frame * log_probs_TV.shape(1);
    if (log_probs_TV.dtype() == nb::dtype<double>()) {
      search.cut(static_cast<const double*>(log_probs_TV.data()) + at, work.frame);
    } else {
      search.cut(static_cast<const float*>(log_probs_TV.data()) + at, work.frame);
    }
    search.advance(state, work.frame, work);
  }
  state.shrink_to_fit();
  return state;
}

using Outcome = std::tuple<State, std::size_t, Verdict, bool>;

std::vector<Outcome> hear_all(const Search& search, const std::vector<const State*>& states,
                              const std::vector<Matrix>& log_probs, const std::vector<std::size_t>& begins,
                              const std::vector<EndpointRules>& rules, const std::vector<double>& commit_margins,
                              std::int32_t commit_every, std::size_t threads) {
  const nb::gil_scoped_release no_gil;
  std::vector<Turn> turns;
  for (std::size_t at = 0; at < states.size(); ++at) {
    turns.push_back({*states[at], log_probs[at].data(), log_probs[at].dtype() == nb::dtype<double>(),
                     log_probs[at].shape(0), begins[at], rules[at], commit_margins[at]});
  }
  Hearing(search, commit_every).hear_all(turns, threads);
  std::vector<Outcome> outcomes;
  for (Turn& turn : turns) {
    turn.state.shrink_to_fit();
    outcomes.emplace_back(std::move(turn.state), turn.heard, turn.verdict, turn.settled);
  }
  return outcomes;
}

using BeamView = std::tuple<std::string, std::string, std::int32_t, double, double, double, double>;

std::vector<BeamView> beams(const State& state) {
  std::vector<BeamView> views;
  for (const Beam& beam : state.beams) {
    views.emplace_back(state.words(beam.context), state.text(beam.part), beam.token, beam.score, beam.path_score,
                       state.contexts[beam.context].score, beam.part_score);
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
      .def(nb::new_(&language_model), "base_score"_a, "new_state"_a, "contains"_a, "start"_a, "order"_a, "words"_a,
           "cache_entries"_a)
      .def_prop_ro("start", [](const LanguageModel& lm) { return lm.start; })
      .def_ro("order", &LanguageModel::order)
      .def_prop_ro("cached_entries", &LanguageModel::cached_entries, ReleasesGil())
      .def_prop_ro("lexicon_bytes", [](const LanguageModel& lm) { return lm.lexicon.bytes(); })
      .def(
          "score",
          [](LanguageModel& lm, const LmWeights& weights, const LmStateRef& state, const std::string& word) {
            const Spell spell = [&] { return word; };
            const std::uint32_t root = lm.lexicon.empty() ? Trie::kNone : Trie::kRoot;
            return lm.score(weights, state, lm.word(lm.lexicon.walk(root, code_points(word)), spell), spell);
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
      .def(nb::new_(&hotwords), "hotwords"_a)
      .def_prop_ro("bytes", &Hotwords::bytes)
      .def("score", &Hotwords::score, "text"_a)
      .def("score_part", &Hotwords::score_next, "text"_a, "part"_a);

  nb::class_<State>(m, "State")
      .def_prop_ro("frame", [](const State& state) { return state.origin + state.frames; })
      .def_prop_ro("speech_start",
                   [](const State& state) -> std::optional<std::int64_t> {
                     if (state.speech_start < 0) return std::nullopt;
                     return state.origin + state.speech_start;
                   })
      .def_prop_ro("hotwords", [](const State& state) { return std::const_pointer_cast<Hotwords>(state.hotwords); })
      .def_prop_ro("committed", [](const State& state) { return state.words(state.committed); })
      .def_prop_ro("committed_words", [](const State& state) { return state.contexts[state.committed].words; })
      .def_prop_ro("offset", [](const State& state) { return state.offset; })
      .def_prop_ro("beams", &beams)
      .def_prop_ro("open_tokens", &State::open_tokens)
      .def_prop_ro("bytes", &State::bytes);

  nb::class_<HeardToken>(m, "HeardToken")
      .def_ro("start_frame", &HeardToken::start)
      .def_ro("end_frame", &HeardToken::end)
      .def_ro("log_prob", &HeardToken::log_prob);
  nb::class_<HeardWord>(m, "HeardWord")
      .def_ro("text", &HeardWord::text)
      .def_ro("share", &HeardWord::share)
      .def_ro("tokens", &HeardWord::tokens)
      .def_prop_ro("start_frame", [](const HeardWord& word) { return word.tokens.front().start; })
      .def_prop_ro("end_frame", [](const HeardWord& word) { return word.tokens.back().end; })
      .def_prop_ro("mean_log_prob", &HeardWord::mean_log_prob);
  nb::class_<Reading>(m, "Reading").def_ro("words", &Reading::words).def_ro("score", &Reading::score);

  nb::enum_<Verdict>(m, "Verdict")
      .value("GOES_ON", Verdict::goes_on)
      .value("ENDS", Verdict::ends)
      .value("SPLITS", Verdict::splits)
      .value("HEARD_NOTHING", Verdict::heard_nothing);
  nb::class_<EndpointRules>(m, "EndpointRules")
      .def(nb::init<std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t>(), "silence"_a,
           "start_silence"_a, "max_utterance"_a, "max_overrun"_a, "pause"_a)
      .def_ro("silence", &EndpointRules::silence)
      .def_ro("start_silence", &EndpointRules::start_silence)
      .def_ro("max_utterance", &EndpointRules::max_utterance)
      .def_ro("max_overrun", &EndpointRules::max_overrun)
      .def_ro("pause", &EndpointRules::pause)
      .def("judge", &EndpointRules::judge, "frames"_a, "silent_frames"_a.none(), "between_words"_a, "quiet"_a);

  nb::class_<SearchConfig>(m, "SearchConfig")
      .def(nb::init<std::size_t, double, double, bool, bool, std::size_t, LmWeights>(), "beam_width"_a, "beam_prune_log_prob"_a,
           "token_min_log_prob"_a, "prune_history"_a, "charge_empty_last_word"_a, "max_path_tokens"_a,
           "weights"_a);
  nb::class_<Search>(m, "Search")
      .def(nb::new_(&search), "pieces"_a, "starts"_a, "blank"_a, "separator"_a.none(), "lm"_a.none(), "config"_a)
      .def("initial", [](const Search& search, std::shared_ptr<Hotwords> hotwords, std::int64_t frame,
                         const std::vector<std::string>& after) { return search.initial(hotwords, frame, after); },
           "hotwords"_a, "frame"_a, "after"_a, ReleasesGil())
      .def("with_hotwords", &with_hotwords, "state"_a, "hotwords"_a, ReleasesGil())
      .def("commit", &committed, "state"_a, "text"_a, ReleasesGil())
      .def("settled",
           [](const Search& search, const State& state, double margin) {
             return state.words(search.settled(state, margin));
           },
           "state"_a, "margin"_a)
      .def("step", &heard, "state"_a, "log_probs_TV"_a, ReleasesGil())
      .def("hear", &hear_all, "states"_a, "log_probs"_a, "begins"_a, "rules"_a, "commit_margins"_a, "commit_every"_a,
           "threads"_a)
      .def("read_open", [](const Search&, const State& state, std::size_t count) { return read_open(state, count); },
           "state"_a, "count"_a, ReleasesGil())
      .def("read_final", &read_final, "state"_a, "count"_a, "end_of_sentence"_a, ReleasesGil());
}
