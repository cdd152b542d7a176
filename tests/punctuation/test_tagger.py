"""The NumPy stream equals the PyTorch network, and its answers do not depend on how words are split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamasr.punctuation.base import END_MARKS, MARKS, Boundary, Punctuated
from streamasr.punctuation.corpus import feature_table
from tests.punctuation import tiny

WORDS = "i said nineteen anna mcdonald the of well where is now 'tis o'brien zzyzx".split()  # noqa: SIM905
TEXT = st.lists(st.tuples(st.sampled_from(WORDS), st.floats(0, 2_000)), max_size=14)
TAGGER = tiny.tagger()


def test_scores_equal_those_of_the_network() -> None:
    network, config = tiny.network(), tiny.CONFIG
    words = ["i", "saw", "anna", "well", "mcdonald", "zzyzx", "where", "is", "now"]
    pauses_ms = [0.0, 100, 160, 400, 700, 0, 0, 320, 5_000]
    table = torch.from_numpy(feature_table(words, tiny.VOCABULARY, config.word_rows, config.ngram_rows))
    end = len(words)
    ids = [end] * config.left + list(range(len(words))) + [end] * config.look_ahead
    steps = [0] * config.left + [1, 1, 2, 3, 4, 1, 1, 3, 4] + [0] * config.look_ahead
    carries = [torch.zeros(1, config.hidden) for _ in range(config.layers)]
    with torch.no_grad():
        marks, casings, _ = network(network.embed(table), torch.tensor([ids]), torch.tensor([steps]), carries)
    tokens = TAGGER._tokens(words, pauses_ms)
    ends = [TAGGER._boundary_tokens[Boundary.END]]
    tokens = ends * config.left + tokens + ends * config.look_ahead
    numpy_carries = TAGGER.initial_state().carries
    for at in range(len(words)):
        numpy_carries, mark, casing = TAGGER._scores(tokens[at : at + config.window], numpy_carries)
        np.testing.assert_allclose(mark, marks[0, at].numpy(), atol=1e-4, rtol=1e-4)
        np.testing.assert_allclose(casing, casings[0, at].numpy(), atol=1e-4, rtol=1e-4)


@given(TEXT, st.lists(st.integers(0, 14), max_size=5), st.sampled_from([None, *Boundary]))
def test_any_split_gives_the_same_decisions(
    text: list[tuple[str, float]], splits: list[int], boundary: Boundary | None
) -> None:
    words, pauses = [word for word, _ in text], [pause for _, pause in text]
    _, whole = TAGGER.step(TAGGER.initial_state(), words, pauses, boundary)
    state, decisions, start = TAGGER.initial_state(), [], 0
    for end in [*sorted(min(at, len(words)) for at in splits), len(words)]:
        last = boundary if end == len(words) and start < end else None
        state, new = TAGGER.step(state, words[start:end], pauses[start:end], last)
        decisions += new
        start = end
    if boundary is not None and len(decisions) < len(words):
        state, new = TAGGER.step(state, (), (), boundary)
        decisions += new
    assert [d.text for d in decisions] == [d.text for d in whole]
    assert [d.mark for d in decisions[:-1]] == [d.mark for d in whole[:-1]]
    assert len(decisions) == (len(words) if boundary else max(0, len(words) - TAGGER.look_ahead))


def test_decisions_wait_for_the_look_ahead_and_nothing_more() -> None:
    state, waited = TAGGER.initial_state(), []
    for count, word in enumerate(WORDS, start=1):
        state, decisions = TAGGER.step(state, [word])
        waited += decisions
        assert len(waited) == max(0, count - 3)


@given(TEXT.filter(bool))
def test_the_last_word_of_an_ended_utterance_has_an_end_mark(text: list[tuple[str, float]]) -> None:
    _, decisions = TAGGER.step(TAGGER.initial_state(), [word for word, _ in text], None, Boundary.END)
    assert decisions[-1].mark in END_MARKS


def test_random_decisions_are_of_every_kind() -> None:
    """The other tests would prove nothing if all decisions were alike."""
    _, decisions = TAGGER.step(TAGGER.initial_state(), WORDS * 6, None, Boundary.END)
    assert {decision.mark for decision in decisions} == set(MARKS)
    assert Punctuated("McDonald", "") == Punctuated("McDonald", "")
    assert len({decision.text for decision in decisions}) > len(WORDS)


def test_the_state_is_a_value() -> None:
    state, _ = TAGGER.step(TAGGER.initial_state(), WORDS)
    first = TAGGER.step(state, ["well"], None, Boundary.END)[1]
    TAGGER.step(state, ["where", "is", "now"])
    assert TAGGER.step(state, ["well"], None, Boundary.END)[1] == first


def test_pauses_must_be_as_many_as_words() -> None:
    with pytest.raises(ValueError, match="zip"):
        TAGGER.step(TAGGER.initial_state(), ["a", "b"], [1.0])
