"""Test evaluation: recognised texts, scores and options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from streamasr.errors import ConfigError, DataError
from streamasr.evaluation.decoding_pass import Mode
from streamasr.evaluation.evaluate import (
    EvaluationOptions,
    describe_machine,
    evaluate,
    passes,
    read_manifests,
)
from streamasr.manifest import Utterance
from streamasr.protocol.messages import Start
from streamasr.recognition.model import LoadedModel
from streamasr.report.results import Measurement
from tests.recognition.tiny import final_text, messages_of, noise, tiny_model

SECONDS = (0.5, 2.0, 1.2, 3.1)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return tiny_model()


@pytest.fixture(scope="module")
def utterances(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    """Files with the transcripts that the model recognises at 160 ms."""
    folder = tmp_path_factory.mktemp("audio")
    made = []
    for index, seconds in enumerate(SECONDS):
        samples = noise(seconds, seed=index)
        path = folder / f"{index}.wav"
        soundfile.write(path, samples, 16_000, subtype="PCM_16")
        text = final_text(messages_of(model, samples, Start(latency_ms=160)))
        made.append(Utterance(path, seconds, text.upper(), f"speaker {index % 2}"))
    return made


def measured(model: LoadedModel, utterances: list[Utterance], **options: Any) -> tuple[Measurement, ...]:
    return evaluate(model, {"m": utterances}, EvaluationOptions(**options)).measurements


@pytest.mark.parametrize("batch", [1, 3])
def test_texts_equal_a_sessions_in_any_batch(
    model: LoadedModel, utterances: list[Utterance], batch: int
) -> None:
    progress_calls: list[tuple[str, int | None]] = []
    evaluation = evaluate(
        model,
        {"m": utterances},
        EvaluationOptions(chunk_ms=(200,), batch=batch),
        lambda name, chunk_ms: progress_calls.append((name, chunk_ms)),
    )
    (found,) = evaluation.measurements
    assert [answer.hypothesis.upper() for answer in found.answers] == [u.text for u in utterances]
    assert [answer.speaker for answer in found.answers] == [u.speaker for u in utterances]
    assert progress_calls == [("m", 160)] * 4
    assert (found.wer.value, found.cer.value, found.wer.high) == (0.0, 0.0, 0.0)
    assert (found.chunk_ms, found.mode, found.manifest) == (160, "beam", "m")
    assert found.utterances == 4
    assert found.audio_s == pytest.approx(sum(SECONDS))
    assert 0 < found.rtf.low <= found.rtf.value <= found.rtf.high
    assert found.cpu > 0
    assert (evaluation.model, evaluation.unit) == ("tiny", "word")
    assert evaluation.parameters > 1_000


def test_errors_are_counted_with_their_interval(model: LoadedModel, utterances: list[Utterance]) -> None:
    spoilt = [utterances[0], *(Utterance(u.audio, u.duration_s, u.text + " abba") for u in utterances[1:])]
    (found,) = measured(model, spoilt, chunk_ms=(160,))
    words = sum(len(u.text.split()) for u in spoilt)
    assert found.wer.value == pytest.approx(3 / words)
    assert found.wer.low < found.wer.value < found.wer.high
    assert (found.words.deletions, found.words.length) == (3, words)


def test_one_call_measures_every_latency_and_mode(model: LoadedModel, utterances: list[Utterance]) -> None:
    both = (Mode.GREEDY, Mode.BEAM)
    found = measured(model, utterances, chunk_ms=None, offline=True, modes=both)
    assert [(m.chunk_ms, m.mode) for m in found] == [
        (chunk_ms, mode) for chunk_ms in (80, 160, 320, None) for mode in ("greedy", "beam")
    ]
    for m in found:
        (alone,) = measured(
            model,
            utterances,
            chunk_ms=() if m.chunk_ms is None else (m.chunk_ms,),
            offline=m.chunk_ms is None,
            modes=(Mode(m.mode),),
        )
        assert alone.answers == m.answers
        assert any(answer.hypothesis for answer in m.answers)


def test_the_encoder_runs_once_for_all_modes(
    model: LoadedModel, utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 0
    step = type(model.encoder).step

    def counted(*args: Any) -> Any:
        nonlocal steps
        steps += 1
        return step(*args)

    monkeypatch.setattr(type(model.encoder), "step", counted)
    measured(model, utterances, modes=(Mode.GREEDY,))
    alone, steps = steps, 0
    measured(model, utterances, modes=(Mode.GREEDY, Mode.BEAM))
    assert steps == alone > 0


def test_several_manifests_are_measured_apart(model: LoadedModel, utterances: list[Utterance]) -> None:
    options = EvaluationOptions(modes=(Mode.GREEDY,))
    found = evaluate(model, {"a": utterances[:1], "b": utterances[1:]}, options).measurements
    assert [(m.manifest, m.utterances) for m in found] == [("a", 1), ("b", 3)]


def test_sizes_that_are_one_to_the_model_are_measured_once(model: LoadedModel) -> None:
    assert passes(model, EvaluationOptions(chunk_ms=(320, 100, 90), offline=True)) == [4, 16, None]


def test_offline_needs_an_encoder_for_whole_utterances(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model.encoder), "supports_whole_utterances", False)
    assert passes(model, EvaluationOptions(chunk_ms=(320,))) == [16]
    with pytest.raises(ConfigError, match="--offline needs the weights of tiny"):
        passes(model, EvaluationOptions(chunk_ms=(320,), offline=True))


def test_manifests_are_named_after_their_folders_or_files(tmp_path: Path) -> None:
    line = '{"audio_filepath": "a.wav", "duration": 1, "text": "a"}\n'
    paths = [tmp_path / "dev" / "manifest.jsonl", tmp_path / "phone.jsonl", tmp_path / "b" / "phone.jsonl"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text(line * 3)
    named = read_manifests([*paths, paths[0]], limit=2)
    assert list(named) == ["dev", str(paths[1]), str(paths[2])]
    assert [len(utterances) for utterances in named.values()] == [2, 2, 2]


def test_files_that_cannot_be_used_are_named(model: LoadedModel, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.wav: no such file"):
        measured(model, [Utterance(tmp_path / "none.wav", 1.0, "a")])
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(DataError, match=r"empty\.wav: contains no samples"):
        measured(model, [Utterance(tmp_path / "empty.wav", 0.0, "a")])
    with pytest.raises(DataError, match="m: contains no utterances"):
        measured(model, [])


def test_a_missing_language_model_is_an_error(model: LoadedModel, utterances: list[Utterance]) -> None:
    with pytest.raises(ConfigError, match=r"tiny has no language model \(lm.bin\); use greedy or beam"):
        measured(model, utterances, modes=(Mode.BEAM_LM,))


def test_sizes_must_be_positive_and_something_must_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="--chunk-ms and --batch must be positive, got 160 and 0"):
        EvaluationOptions(chunk_ms=(160,), batch=0)
    with pytest.raises(ConfigError, match="nothing to measure"):
        EvaluationOptions(chunk_ms=())


def test_the_machine_is_described_by_its_device() -> None:
    words = describe_machine(torch.device("cpu"))
    assert f"{torch.get_num_threads()} thread" in words
    assert "core" in words
