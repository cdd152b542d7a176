"""Evaluation: what it recognises, how it scores, what its switches do."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.engine.local import transcribe_samples
from streamasr.engine.model import LoadedModel
from streamasr.errors import ConfigError, DataError
from streamasr.evaluation.evaluate import EvaluationOptions, evaluate
from streamasr.manifest import Utterance
from streamasr.protocol.messages import Start
from tests.engine.tiny import final_text, noise, tiny_model

SECONDS = (0.5, 2.0, 1.2, 3.1)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def utterances(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Files whose transcripts are what the model says of them at 160 ms."""
    folder = tmp_path_factory.mktemp("audio")
    made = []
    for index, seconds in enumerate(SECONDS):
        samples = noise(seconds, seed=index)
        path = folder / f"{index}.wav"
        soundfile.write(path, samples, 16_000, subtype="PCM_16")
        text = final_text(transcribe_samples(model, samples, Start(latency_ms=160)))
        made.append(Utterance(path, seconds, text.upper()))
    return made


@pytest.mark.parametrize("batch", [1, 3])
def test_it_says_what_a_session_says_whatever_the_batch(
    model: LoadedModel, utterances: list[Utterance], batch: int
) -> None:
    heard: list[int] = []
    report, answers = evaluate(
        model,
        utterances,
        EvaluationOptions(chunk_ms=200, batch=batch),
        lambda answer: heard.append(answer.index),
    )
    assert [answer.text.upper() for answer in answers] == [utterance.text for utterance in utterances]
    assert sorted(heard) == [0, 1, 2, 3]
    assert (report.wer.value, report.cer.value, report.wer.high) == (0.0, 0.0, 0.0)
    assert (report.chunk_ms, report.utterances, report.audio_s) == (160, 4, pytest.approx(sum(SECONDS)))
    assert report.mode == "streaming, beam without LM"
    assert 0 < report.rtf.low <= report.rtf.value <= report.rtf.high


def test_errors_are_counted_with_their_interval(model: LoadedModel, utterances: list[Utterance]) -> None:
    spoilt = [utterances[0], *(Utterance(u.audio, u.duration_s, u.text + " abba") for u in utterances[1:])]
    report, _ = evaluate(model, spoilt, EvaluationOptions(chunk_ms=160))
    words = sum(len(u.text.split()) for u in spoilt)
    assert report.wer.value == pytest.approx(3 / words)
    assert report.wer.low < report.wer.value < report.wer.high


@pytest.mark.parametrize(
    ("options", "mode", "chunk_ms"),
    [
        (EvaluationOptions(greedy=True), "streaming, greedy", 320),
        (EvaluationOptions(offline=True), "offline, beam without LM", None),
        (EvaluationOptions(offline=True, greedy=True), "offline, greedy", None),
        (EvaluationOptions(lm=False, chunk_ms=80), "streaming, beam without LM", 80),
    ],
)
def test_the_switches(
    model: LoadedModel,
    utterances: list[Utterance],
    options: EvaluationOptions,
    mode: str,
    chunk_ms: int | None,
) -> None:
    report, answers = evaluate(model, utterances, options)
    assert (report.mode, report.chunk_ms) == (mode, chunk_ms)
    assert any(answer.text for answer in answers)


def test_greedy_does_not_depend_on_the_batch(model: LoadedModel, utterances: list[Utterance]) -> None:
    one, many = (evaluate(model, utterances, EvaluationOptions(greedy=True, batch=b))[1] for b in (1, 4))
    assert [answer.text for answer in one] == [answer.text for answer in many]


def test_files_that_cannot_be_used_are_named(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.wav: no such file"):
        evaluate(model, [Utterance(tmp_path / "none.wav", 1.0, "a")], EvaluationOptions())
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(DataError, match=r"empty\.wav: holds no sample"):
        evaluate(model, [Utterance(tmp_path / "empty.wav", 0.0, "a")], EvaluationOptions())


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="--chunk-ms and --batch must be positive, got 160 and 0"):
        EvaluationOptions(chunk_ms=160, batch=0)
