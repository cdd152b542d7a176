"""Test that tuning finds better weights with the session's decoder and writes them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.config import DecoderConfig, ModelConfig, RescoringConfig
from streamasr.decoding.tokens import TokenList
from streamasr.errors import ConfigError, DataError
from streamasr.evaluation.tuning import Recording, Trial, Tuner, TuningOptions, Weights, record, write_weights
from streamasr.manifest import Utterance
from streamasr.recognition.model import LoadedModel
from streamasr.toml import load_toml, to_toml
from tests.decoding.synthetic import CHARACTERS, TOKENS, rescorer, sentences_of, speech, utterance_decoder
from tests.recognition.tiny import noise, tiny_model

POOR = DecoderConfig(beam_width=8, alpha=3.0, beta=-4.0)
"""Weights that swallow words."""
SMALL = TuningOptions(alphas=(0.2, 0.8), betas=(0.0, 2.0), blank_penalties=(0.0,), halvings=1)


def model_of(tokens: TokenList, language: str, decoder: DecoderConfig = POOR) -> LoadedModel:
    model = tiny_model()
    config = replace(model.config, language=language, decoder=decoder)
    return replace(model, config=config, decoder=utterance_decoder(decoder, tokens=tokens))


def recordings(tokens: TokenList, count: int = 4) -> list[Recording]:
    rng = np.random.default_rng(5)
    texts = sentences_of(tokens)[:count]
    return [Recording(speech(text, rng, confusion=0.5, tokens=tokens), text) for text in texts]


def test_better_weights_are_found_and_none_are_tried_twice() -> None:
    reported: list[Trial] = []
    tuner = Tuner(model_of(TOKENS, "en"), recordings(TOKENS), reported.append)
    best = tuner.search(SMALL)
    assert reported[0].weights == tuner.current == (3.0, -4.0, 0.0, None)
    assert best.cost < reported[0].cost
    assert best == tuner.trials[0]
    assert len({trial.weights for trial in reported}) == len(reported) == len(tuner.trials)
    assert best.cost == min(trial.cost for trial in reported)
    steps = {
        tuple(
            round(abs(tried - found), 4) for tried, found in zip(t.weights[:3], best.weights[:3], strict=True)
        )
        for t in reported
    }
    assert {(0.15, 0.0, 0.0), (0.0, 0.75, 0.0), (0.0, 0.0, 0.5)} <= steps


def test_the_weight_of_a_neural_language_model_is_tuned_too() -> None:
    recorded = recordings(TOKENS)
    spoken = {word for recording in recorded for word in recording.reference.split()}
    many_texts = replace(POOR, beam_width=50, beam_prune_log_prob=-100.0)
    model = model_of(TOKENS, "en", many_texts)
    model = replace(model, decoder=model.decoder.with_rescorer(rescorer(*spoken, weight=0.3)))
    tuner = Tuner(model, recorded)
    best = tuner.search(SMALL)
    assert tuner.current == (3.0, -4.0, 0.0, 0.3)
    assert best.cost < min(trial.cost for trial in tuner.trials if trial.weights.rescoring == 0.3)
    assert best.weights.rescoring is not None
    assert best.weights.rescoring < 0.3, "it dislikes what was said"


def test_more_halvings_never_end_worse_than_the_grid() -> None:
    recorded, model = recordings(TOKENS), model_of(TOKENS, "en")
    costs = [Tuner(model, recorded).search(replace(SMALL, halvings=count)).cost for count in (0, 2)]
    assert costs[1] <= costs[0]


def test_mandarin_is_tuned_on_characters() -> None:
    tuner = Tuner(model_of(CHARACTERS, "zh"), recordings(CHARACTERS), beam_width=4)
    trial = tuner.attempt(Weights(0.5, 1.0))
    assert trial.errors == trial.characters
    assert trial.errors.length == sum(len(text) for text in sentences_of(CHARACTERS)[:4])


def test_every_frame_of_every_utterance_is_recorded(tmp_path: Path) -> None:
    model = tiny_model()
    utterances = []
    for index, seconds in enumerate((0.5, 1.1)):
        soundfile.write(tmp_path / f"{index}.wav", noise(seconds, seed=index), 16_000)
        utterances.append(Utterance(tmp_path / f"{index}.wav", seconds, f"Text {'ab'[index]}!"))
    for batch in (1, 2):
        recorded = record(model, utterances, chunk_ms=160, batch=batch)
        shapes = {one.reference: one.log_probs_TV.shape for one in recorded}
        assert shapes == {"text a": (25, 9), "text b": (55, 9)}
    soundfile.write(tmp_path / "0.wav", np.zeros(0), 16_000)
    with pytest.raises(DataError, match=r"0\.wav: contains no samples"):
        list(record(model, utterances, chunk_ms=160, batch=1))


def test_without_a_language_model_or_speech_there_is_nothing_to_weigh() -> None:
    with pytest.raises(
        ConfigError, match="tiny has no language model to tune; build one with `streamasr lm build`"
    ):
        Tuner(tiny_model(), recordings(TOKENS))
    with pytest.raises(DataError, match="nothing to tune on"):
        Tuner(model_of(TOKENS, "en"), [])


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"alphas": ()}, "at least one alpha"),
        ({"blank_penalties": ()}, "one blank penalty"),
        ({"alphas": (-0.1,)}, "alpha must not be negative, got -0.1"),
        ({"halvings": -1}, "halvings not negative"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        TuningOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        'name = "m"\n\n[decoder]\nalpha = 0.1  # by ear\nbeam_width = 7\n\n[endpointing]\npause_ms = 90\n',
        'name = "m"  # nothing else\n',
        'name = "m"\n[decoder]\n',
        to_toml(ModelConfig(name="m")),
    ],
)
def test_weights_are_written_and_all_else_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    before = load_toml(ModelConfig, path)
    write_weights(path, Weights(0.65, -1.0, 1.5))
    after = load_toml(ModelConfig, path)
    weighed = replace(before.decoder, alpha=0.65, beta=-1.0, blank_penalty=1.5)
    assert after == replace(before, decoder=weighed)
    kept = [line for line in text.splitlines() if not line.startswith(("alpha", "beta", "blank_penalty"))]
    assert [line for line in kept if line not in path.read_text().splitlines()] == []
    assert list(tmp_path.iterdir()) == [path]
    write_weights(path, Weights(0.65, -1.0, 1.5, rescoring=0.2))
    assert load_toml(ModelConfig, path) == replace(after, rescoring=RescoringConfig(weight=0.2))
    assert ("# by ear" in text) == ("# by ear" in path.read_text())
