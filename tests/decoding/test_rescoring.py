"""A neural language model chooses the text of finals, and leaves committed words and silence alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamasr.config import DecoderConfig, ModelConfig, RescoringConfig
from streamasr.decoding.beam import CommitRules
from streamasr.decoding.hypothesis import Final, Partial, UtteranceEnding, UtteranceEvent
from streamasr.decoding.loading import load_decoder
from streamasr.decoding.nbest import NBestEntry
from streamasr.decoding.neural_lm import Context, NeuralLmConfig, TextState, save_neural_lm
from streamasr.decoding.rescoring import Rescorer, Unfinished
from streamasr.decoding.utterance import UtteranceDecoder, UtteranceOptions
from streamasr.errors import ConfigError, ModelError
from streamasr.lm.neural_network import NeuralLmNetwork
from streamasr.lm.neural_training import stored_from
from tests.decoding.synthetic import (
    NOWHERE,
    TOKENS,
    Taste,
    beam_decoder,
    log_normalised,
    rescorer,
    silence,
    speech,
)


class _Word(NamedTuple):
    text: str


class _Entry(NamedTuple):
    words: tuple[_Word, ...]
    score: float


def entries(**scores: float) -> list[NBestEntry]:
    texts = {name.replace("_", " ").strip(): score for name, score in scores.items()}
    listed = [_Entry(tuple(map(_Word, text.split())), score) for text, score in texts.items()]
    return cast("list[NBestEntry]", listed)


def order(
    rescorer: Rescorer, listed: list[NBestEntry], committed: Sequence[str] = (), *, ends: bool = True
) -> list[str]:
    ordered = rescorer.order(Context(NOWHERE), listed, committed, end_of_sentence=ends)
    return [" ".join(word.text for word in entry.words) for entry in ordered]


def test_the_weighted_log_prob_is_added_to_the_score() -> None:
    listed = entries(a_sea=-1.0, a_see=-3.0, a_tea=-60.0)
    assert order(rescorer("sea"), listed) == ["a see", "a sea", "a tea"]
    assert order(rescorer("sea", weight=0.01), listed) == ["a sea", "a see", "a tea"]
    assert order(rescorer("sea", "see"), listed) == ["a sea", "a see", "a tea"]


def test_only_what_differs_is_scored() -> None:
    chooser = rescorer()
    order(chooser, entries(the_old_sea=-1.0, the_old_see=-2.0, the_old=-3.0))
    assert cast("Taste", chooser.lm).asked == [(TextState((2, 0), ()), [["sea"], ["see"], []])]


def test_committed_words_stay() -> None:
    listed = entries(a_sea=-1.0, the_see=-1.5, a_see=-2.0)
    assert order(rescorer("sea"), listed, ["a"]) == ["a see", "a sea", "the see"]


def test_whether_there_was_speech_is_not_decided() -> None:
    assert order(rescorer("sea"), entries(sea=-1.0, _=-2.0)) == ["sea", ""]
    assert order(rescorer("sea"), entries(_=-1.0, sea=-2.0, see=-3.0)) == ["", "sea", "see"]
    assert order(rescorer("sea"), entries(sea=-1.0)) == ["sea"]


LOG_PROBS = np.concatenate(
    [
        part
        for seed, text in enumerate(("the old man left", "the boat was lost"))
        for part in (
            speech(text, np.random.default_rng(seed), confusion=0.4, tail_frames=0),
            silence(70, np.random.default_rng(seed)),
        )
    ]
)


def decoder(chooser: Rescorer | None) -> UtteranceDecoder:
    beams = beam_decoder(DecoderConfig(beam_width=64, beam_prune_log_prob=-30, token_min_log_prob=-20))
    model = ModelConfig(name="tiny")
    return UtteranceDecoder(beams, frame_ms=20, endpointing=model.endpointing, rescorer=chooser)


def run(
    chosen: UtteranceDecoder, options: UtteranceOptions | None = None, chunk: int = 16
) -> list[UtteranceEvent]:
    state, events = chosen.initial_state(options), list[UtteranceEvent]()
    for start in range(0, len(LOG_PROBS), chunk):
        state, new = chosen.step(state, LOG_PROBS[start : start + chunk])
        events.extend(new)
    _, new = chosen.flush(state)
    return [*events, *new]


def final_texts(events: Sequence[UtteranceEvent]) -> list[str]:
    return [event.hypothesis.text for event in events if isinstance(event, Final)]


def finals(events: Sequence[UtteranceEvent]) -> list[Final]:
    return [event for event in events if isinstance(event, Final)]


def test_finals_have_the_chosen_text_and_the_rest_as_alternatives() -> None:
    options = replace(decoder(None).default_options(), alternatives=4)
    plain = finals(run(decoder(None), options))
    disliked = plain[-1].hypothesis.words[-1].text
    chosen = finals(run(decoder(rescorer(disliked)), options))
    assert chosen[-1].hypothesis.text != plain[-1].hypothesis.text
    assert disliked not in chosen[-1].hypothesis.text.split()
    assert len(chosen[-1].alternatives) == 3
    assert chosen[-1].hypothesis.text not in [each.text for each in chosen[-1].alternatives]
    unchanged = finals(run(decoder(rescorer()), options))
    assert [final.hypothesis.text for final in unchanged] == [final.hypothesis.text for final in plain]


@pytest.mark.parametrize("disliked", [(), ("lost", "left"), ("the", "old", "was")])
def test_committed_words_stay_until_the_final(disliked: tuple[str, ...]) -> None:
    committed: dict[int, list[str]] = {}
    for event in run(decoder(rescorer(*disliked))):
        if isinstance(event, Partial):
            words = event.hypothesis.text.split()[: event.committed_words]
            assert words[: len(committed.get(event.utterance, []))] == committed.get(event.utterance, [])
            committed[event.utterance] = words
        elif isinstance(event, Final):
            words = committed.get(event.utterance, [])
            assert event.hypothesis.text.split()[: len(words)] == words
    assert any(committed.values())


def sat_or_sit() -> NDArray[np.float32]:
    """Return log-probs of *we sat in the house* in which *sit* is a little more probable than *sat*."""
    weights = np.exp(
        speech("we sat in the house", np.random.default_rng(8), confusion=0.0).astype(np.float64)
    )
    vowel = np.flatnonzero(weights.argmax(axis=1) == TOKENS.encode("a")[0])
    weights[vowel, TOKENS.encode("a")] = 0.45
    weights[vowel, TOKENS.encode("i")] = 0.55
    return log_normalised(weights)


def committed_texts(chooser: Rescorer | None) -> list[str]:
    """Decode without a language model, which cannot tell *sat* from *sit*; return what is committed step by step."""
    beams = beam_decoder(DecoderConfig(beam_width=64), lm=False)
    model = ModelConfig(name="tiny")
    chosen = UtteranceDecoder(beams, frame_ms=20, endpointing=model.endpointing, rescorer=chooser)
    state, texts = chosen.initial_state(), []
    for row in sat_or_sit():
        state, _ = chosen.step(state, row[None])
        words = " ".join(word.text for word in state.committed)
        if words not in texts:
            texts.append(words)
    return texts


def test_the_model_chooses_before_words_are_committed() -> None:
    assert committed_texts(None)[-1].startswith("we sit in")
    assert committed_texts(rescorer())[-1].startswith("we sit in")
    assert committed_texts(rescorer("sit"))[-1].startswith("we sat in")
    assert committed_texts(rescorer("sit", weight=0.0))[-1].startswith("we sit in")
    assert len(committed_texts(rescorer("sit"))) == len(committed_texts(None))


def best_partial(chooser: Rescorer, listed: list[NBestEntry], committed: Sequence[str] = ()) -> str:
    ((entry, _),) = chooser.best_partials([Unfinished(Context(NOWHERE), listed, committed)])
    return " ".join(word.text for word in entry.words)


def test_a_partial_has_the_chosen_words_before_its_last_one() -> None:
    listed = entries(we_sit_i=-1.0, we_sat_i=-2.0, we_set_i=-9.0)
    assert best_partial(rescorer("sit"), listed) == "we sat i"
    assert best_partial(rescorer("sit", "sat"), listed) == "we sit i"
    assert best_partial(rescorer("i"), listed) == "we sit i"


def test_partials_of_other_lengths_or_other_committed_words_are_not_compared() -> None:
    assert best_partial(rescorer("sit"), entries(we_sit_i=-1.0, we_sat=-1.5)) == "we sit i"
    listed = entries(we_sit_i=-1.0, he_sat_i=-1.5)
    assert best_partial(rescorer("sit"), listed) == "he sat i"
    assert best_partial(rescorer("sit"), listed, ["we"]) == "we sit i"
    assert best_partial(rescorer("sit"), entries(_=-1.0)) == ""


def test_gains_are_weighted_log_probs() -> None:
    ((gains, _),) = rescorer("sit", weight=0.5).gains([(Context(NOWHERE), [("we", "sat"), ("we", "sit")])])
    assert gains == {("we", "sat"): 0.0, ("we", "sit"): -50.0}


def test_chosen_words_keep_the_probability_that_they_had() -> None:
    beams = beam_decoder(DecoderConfig(beam_width=64), lm=False)
    state = beams.step(beams.initial_state(), sat_or_sit())
    rules = CommitRules(math.inf, 4.0, 20)
    texts = beams.rivals(state, rules)
    assert ["we", "sat", "in", "the"] in texts
    committed = beams.commit_rescored(state, rules, [100.0 * ("sat" in text) for text in texts])
    assert committed is not None
    after, best = committed
    assert after.committed == "we sat in"
    assert [word.text for word in best.words] == ["we", "sat", "in", "the", "house"]
    we, sat = best.words[:2]
    assert sat.posterior == pytest.approx(0.45, abs=0.05)
    assert we.posterior > 0.9


def test_sessions_of_a_step_are_read_together_and_decoded_as_alone() -> None:
    chooser = rescorer("lost", "left")
    chosen = decoder(chooser)
    alone = run(chosen)
    states, events = [chosen.initial_state() for _ in range(3)], [list[UtteranceEvent]() for _ in range(3)]
    together = cast("Taste", chooser.lm).contexts_together
    together.clear()
    for start in range(0, len(LOG_PROBS), 16):
        chunk = LOG_PROBS[start : start + 16]
        for at, (state, new) in enumerate(chosen.step_all([(state, chunk) for state in states])):
            states[at] = state
            events[at].extend(new)
    assert set(together) <= {0, 3}
    for state, found in zip(states, events, strict=True):
        assert [*found, *chosen.flush(state)[1]] == alone


@pytest.mark.parametrize("chunk", [1, 7, 400])
def test_finals_do_not_depend_on_how_frames_are_split(chunk: int) -> None:
    taste = rescorer("lost", "left")
    assert finals(run(decoder(taste), chunk=chunk)) == finals(run(decoder(taste)))


def test_the_model_knows_the_utterances_before() -> None:
    chooser = rescorer()
    first, second = final_texts(run(decoder(chooser)))
    assert second
    asked = cast("Taste", chooser.lm).asked
    contexts = {state.rows[1] for state, _ in asked}
    assert contexts == {0, 1}
    assert min(state.rows[0] for state, _ in asked if state.rows[1]) >= len(first.split())


def test_an_announced_ending_has_the_text_of_its_final() -> None:
    chosen = decoder(rescorer("lost", "left"))
    options = replace(chosen.default_options(), ending_threshold=0.01)
    events = run(chosen, options)
    announced = {event.utterance: event for event in events if isinstance(event, UtteranceEnding)}
    assert set(announced) == {0, 1}
    assert [announced[at].hypothesis.text for at in (0, 1)] == final_texts(events)


def test_a_model_folder_brings_the_model(tmp_path: Path) -> None:
    folder = tmp_path
    TOKENS.save(folder / "tokens.txt")
    model = ModelConfig(name="tiny", rescoring=RescoringConfig(weight=0.2, candidates=7))
    assert load_decoder(folder, model, frame_ms=20).rescorer is None
    torch.manual_seed(0)
    network = NeuralLmNetwork(NeuralLmConfig(words=4, dim=8, hidden=8, layers=1), dropout=0.0)
    save_neural_lm(folder / "neural_lm.safetensors", stored_from(network, ("the", "sea")))
    loaded = load_decoder(folder, model, frame_ms=20)
    assert loaded.rescorer is not None
    assert loaded.rescorer.config.candidates == 7
    assert loaded.with_beam_decoder(loaded.beams).rescorer is loaded.rescorer
    switched_off = replace(model, rescoring=RescoringConfig(weight=0))
    assert load_decoder(folder, switched_off, frame_ms=20).rescorer is None
    (folder / "neural_lm.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"neural_lm\.safetensors: not a safetensors file"):
        load_decoder(folder, model, frame_ms=20)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="weight must not be negative, got -1"):
        RescoringConfig(weight=-1)
    with pytest.raises(ConfigError, match="candidates must be positive, got 0"):
        RescoringConfig(candidates=0)
