"""Test that many files give the texts of single sessions, and that a failure is only its own row's."""

from __future__ import annotations

import itertools
import threading
from pathlib import Path
from typing import Any

import pytest
import soundfile

from streamasr.bulk.read_ahead import ReadAhead
from streamasr.bulk.recogniser import BulkRecogniser, Outcome
from streamasr.media.inputs import AudioInput
from streamasr.protocol.messages import Final, Start
from streamasr.recognition.batch import BatchStep
from streamasr.recognition.captions import Captioner
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from tests.recognition.tiny import in_place, messages_of, noise, tiny_model

START = Start(latency_ms=320, partials=False)
LENGTHS_S = (0.0, 0.01, 2.0, 7.3, 1.1, 12.0, 3.0, 0.5, 5.9)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bulk")
    for number, length_s in enumerate(LENGTHS_S):
        soundfile.write(folder / f"{number}.wav", noise(length_s, seed=number), 16_000, subtype="FLOAT")
    return [folder / f"{number}.wav" for number in range(len(LENGTHS_S))]


@pytest.fixture(scope="module", params=["values", "native", "look-ahead"])
def model(request: pytest.FixtureRequest) -> LoadedModel:
    if request.param == "native":
        return in_place(tiny_model())
    return tiny_model(hops_per_chunk=2 if request.param == "look-ahead" else 1)


def source_of(files: list[Path]) -> Any:
    return lambda index: AudioInput(files[index], str(files[index]))


def recognise(model: LoadedModel, files: list[Path], **settings: Any) -> dict[int, Outcome]:
    recogniser = BulkRecogniser(
        model, resolve_options(START, model), range(len(files)), source_of(files), **settings
    )
    try:
        found = [outcome for outcome in recogniser.outcomes() if outcome is not None]
    finally:
        recogniser.stop()
    assert len({outcome.index for outcome in found}) == len(found)
    return {outcome.index: outcome for outcome in found}


def alone(model: LoadedModel, path: Path) -> tuple[Final, ...]:
    samples, _ = soundfile.read(path, dtype="float32")
    return tuple(message for message in messages_of(model, samples, START) if isinstance(message, Final))


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (1, 4), (2, 2), (3, 16)])
def test_each_file_gives_the_finals_of_a_session_alone(
    model: LoadedModel, files: list[Path], workers: int, batch: int
) -> None:
    found = recognise(model, files, workers=workers, batch=batch)
    assert {index: outcome.finals for index, outcome in found.items()} == {
        index: alone(model, path) for index, path in enumerate(files)
    }
    assert any(outcome.finals for outcome in found.values())
    assert [found[index].audio_s for index in range(len(files))] == pytest.approx(LENGTHS_S, abs=1e-4)


def test_unreadable_files_fail_after_their_retries_and_no_others(
    model: LoadedModel, files: list[Path]
) -> None:
    mixed = [files[3], files[0].with_name("none.wav"), files[2], Path(__file__)]
    found = recognise(model, mixed, workers=2, batch=2, retries=1)
    assert found[1].error == f"{mixed[1]}: no such file"
    assert found[3].error is not None
    assert [found[index].attempts for index in range(4)] == [1, 2, 1, 2]
    assert (found[0].finals, found[2].finals) == (alone(model, files[3]), alone(model, files[2]))


def test_a_file_that_can_be_read_the_second_time_is_recognised(files: list[Path], tmp_path: Path) -> None:
    model, late = tiny_model(), tmp_path / "late.wav"
    tried = itertools.count()

    def source(index: int) -> AudioInput:
        if next(tried) == 1:
            late.write_bytes(files[3].read_bytes())
        return AudioInput(late, "late")

    recogniser = BulkRecogniser(model, resolve_options(START, model), [0], source, retries=1)
    (outcome,) = (outcome for outcome in recogniser.outcomes() if outcome is not None)
    recogniser.stop()
    assert (outcome.finals, outcome.attempts) == (alone(model, files[3]), 2)


def test_a_failing_step_costs_no_other_file_its_text(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step fails whenever one certain file is in it."""
    model = tiny_model()
    run, poison = BatchStep.run, noise(LENGTHS_S[5], seed=5)

    def failing(self: BatchStep, chunks: Any) -> Any:
        for _, chunk in chunks:
            at = chunk.end_sample - len(chunk.samples_S)
            if at > 16_000 and len(chunk.samples_S) and (chunk.samples_S[:9] == poison[at : at + 9]).all():
                raise MemoryError("injected")
        return run(self, chunks)

    monkeypatch.setattr(BatchStep, "run", failing)
    found = recognise(model, files, workers=2, batch=4, retries=1)
    monkeypatch.undo()
    assert (found[5].error, found[5].attempts) == ("MemoryError: injected", 2)
    for index in set(range(len(files))) - {5}:
        assert found[index].finals == alone(model, files[index])


def test_a_failing_decoder_fails_its_row_alone(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    accept = Captioner.accept

    def failing(self: Captioner, chunk: Any, *log_probs: Any) -> Any:
        if chunk.end_sample > 11 * 16_000:
            raise RuntimeError("injected")
        return accept(self, chunk, *log_probs)

    monkeypatch.setattr(Captioner, "accept", failing)
    found = recognise(model, files, batch=4, retries=0)
    assert [index for index, outcome in found.items() if outcome.error] == [5]
    assert found[5].error == "RuntimeError: injected"


def test_an_error_of_the_program_ends_the_run(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    monkeypatch.setattr(Captioner, "__init__", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        recognise(model, files, workers=2)


def test_stopping_ends_all_threads(files: list[Path]) -> None:
    model = tiny_model()
    before = threading.active_count()
    recogniser = BulkRecogniser(
        model, resolve_options(START, model), itertools.cycle(range(len(files))), source_of(files), workers=2
    )
    assert next(outcome for outcome in recogniser.outcomes() if outcome is not None).error is None
    recogniser.stop()
    assert threading.active_count() == before


def test_samples_in_memory_are_bounded(tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, noise(120.0), 16_000)
    ahead = ReadAhead(
        itertools.repeat(0), lambda _: AudioInput(long, "long"), 16_000, None, files=3, threads=2
    )
    opened = [ahead.claim(wait=True) for _ in range(3)]
    assert ahead.claim(wait=False) is None
    first = opened[0]
    assert first is not None
    total = ended = 0
    while not ended:
        ((_, blocks, ended),) = ahead.take([first], wait=True)
        assert sum(map(len, blocks)) <= 15 * 16_000 + 65_536
        total += sum(map(len, blocks))
    assert total == 120 * 16_000
    ahead.finish(first)
    assert ahead.claim(wait=True) is not None
    ahead.stop()
    ahead.join()
