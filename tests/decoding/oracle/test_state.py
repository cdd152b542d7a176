"""Test recombination and stable words."""

from __future__ import annotations

from streamasr.decoding.hypothesis import Hotword
from tests.decoding.oracle.builders import oracle_beams
from tests.decoding.oracle.history import HistoryScorer
from tests.decoding.oracle.hotwords import HotwordScorer
from tests.decoding.oracle.paths import Path
from tests.decoding.oracle.state import Beam, BeamState, recombined, rivals, stable_text
from tests.decoding.synthetic import TOKENS


def beams(scorer: HistoryScorer, *texts: str) -> tuple[Beam, ...]:
    """Make beams of ``finished words|open word``, best first."""
    result = []
    for rank, text in enumerate(texts):
        words, _, partial_word = text.partition("|")
        history = scorer.root()
        for word in words.split():
            history = scorer.extend(history, word)
        result.append(Beam(history, partial_word, TOKENS.blank, -float(rank), -float(rank), 0.0, Path()))
    return tuple(result)


def state(scorer: HistoryScorer, *texts: str) -> BeamState:
    return BeamState(beams(scorer, *texts), 0.0, True, 0, "", scorer)


def stable(scorer: HistoryScorer, *texts: str) -> str:
    return stable_text(state(scorer, *texts))


TRIGRAM = oracle_beams().scorer(())


def test_of_beams_with_the_same_language_model_state_the_best_is_kept() -> None:
    found = recombined(beams(TRIGRAM, "a b c|d", "x b c|d", "x b c|e", "a x c|d"))
    assert [(beam.history.text, beam.partial_word) for beam in found] == [
        ("a b c", "d"),
        ("x b c", "e"),
        ("a x c", "d"),
    ]


def test_words_are_stable_when_all_competitive_beams_have_them() -> None:
    assert stable(TRIGRAM, "a b c d|", "a b c e|") == "a b c"
    assert stable(TRIGRAM, "a b c|d", "x b c|d") == "a b c"
    assert stable(TRIGRAM, "a b|c", "a x|c") == "a"
    assert stable(TRIGRAM, "a|", "|a") == ""
    assert stable(TRIGRAM, "|a") == ""


def test_rescoring_chooses_among_beams_with_the_same_future() -> None:
    found = state(TRIGRAM, "a b c|d", "x b c|d", "a y|")
    assert rivals(found, 1e9) == ["a b c", "x b c"]
    assert rivals(found, 0.0) == []
    assert stable_text(found, 1e9, {"a b c": 0.0, "x b c": -1e9}) == "a"
    assert stable_text(found, 1e9, {"a b c": 0.0, "x b c": 1e9}) == ""
    assert stable_text(found, 0.0, {"a b c": 0.0, "x b c": 1e9}) == "a"
    contested = state(TRIGRAM, "a b c|d", "x b c|d")
    assert stable_text(contested, 1e9, {"a b c": 0.0, "x b c": 1e9}) == "x b c"
    assert stable_text(contested, 1e9, {"x b c": 1e9}) == "a b c"


def test_words_are_not_stable_while_a_hotword_phrase_depends_on_them() -> None:
    scorer = HistoryScorer(None, HotwordScorer([Hotword("a b c d", 3.0)]))
    assert stable(scorer, "x b c|", "a b c|") == ""
    assert stable(HistoryScorer(None, HotwordScorer(())), "x b c|", "a b c|") == "x b c"
