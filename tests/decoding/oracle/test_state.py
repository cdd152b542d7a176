"""What a search tells by its beams alone."""

from __future__ import annotations

from streamasr.decoding.hypothesis import Hotword
from tests.decoding.oracle.context import ContextScorer
from tests.decoding.oracle.hotwords import HotwordScorer
from tests.decoding.oracle.making import oracle_beams
from tests.decoding.oracle.paths import Path
from tests.decoding.oracle.state import Beam, BeamState, settled_text, undominated
from tests.decoding.synthetic import TOKENS


def beams(scorer, *texts):
    """Beams of ``finished words|open word``, best first."""
    result = []
    for place, text in enumerate(texts):
        words, _, part = text.partition("|")
        context = scorer.root()
        for word in words.split():
            context = scorer.extend(context, word)
        result.append(Beam(context, part, TOKENS.blank, -float(place), -float(place), 0.0, Path()))
    return tuple(result)


def settled(scorer, *texts):
    return settled_text(BeamState(beams(scorer, *texts), 0.0, True, 0, "", scorer))


TRIGRAM = oracle_beams().scorer(())


def test_a_beam_is_dominated_once_the_language_model_cannot_tell_it_from_a_better_one():
    found = undominated(beams(TRIGRAM, "a b c|d", "x b c|d", "x b c|e", "a x c|d"))
    assert [(beam.context.text, beam.part) for beam in found] == [
        ("a b c", "d"),
        ("x b c", "e"),
        ("a x c", "d"),
    ]


def test_words_settle_when_every_beam_that_can_still_win_has_them():
    assert settled(TRIGRAM, "a b c d|", "a b c e|") == "a b c"
    assert settled(TRIGRAM, "a b c|d", "x b c|d") == "a b c"
    assert settled(TRIGRAM, "a b|c", "a x|c") == "a"
    assert settled(TRIGRAM, "a|", "|a") == ""
    assert settled(TRIGRAM, "|a") == ""


def test_words_stay_open_while_a_hotword_phrase_depends_on_them():
    scorer = ContextScorer(None, HotwordScorer([Hotword("a b c d", 3.0)]))
    assert settled(scorer, "x b c|", "a b c|") == ""
    assert settled(ContextScorer(None, HotwordScorer(())), "x b c|", "a b c|") == "x b c"
