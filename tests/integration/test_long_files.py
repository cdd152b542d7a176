"""Test long files, and the channels of a file, with the packaged model: locally and through a daemon."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from streamasr.cli import main
from streamasr.frontend.pcm import Samples
from streamasr.protocol.messages import Final, Start
from streamasr.recognition.local import transcribe_blocks
from streamasr.recognition.model import load_model, packaged_models
from streamasr_client.audio import SoundFile
from streamasr_client.transcription import transcribe_file
from tests.integration.conftest import Daemon, run_daemon

CLIPS = Path(__file__).parents[1] / "data" / "librispeech"
CLIP = CLIPS / "481-123719-0000.flac"
TEXT = "it was followed by remorse i tried to drive it away i felt too sick"
RATE = 16_000
MIB = 2**20
START = Start(latency_ms=1_280, partials=False)
TIME_TOLERANCE_MS = 100
GROWTH_BYTES = 48 * MIB
"""Most that memory may grow after the first third. A minute of float32 audio is 3.7 MiB; a text is a few bytes."""

pytestmark = [
    pytest.mark.skipif(
        not (packaged_models().get("en-small", Path("en-small")) / "model.safetensors").is_file(),
        reason="the model en-small has no weights here",
    ),
    pytest.mark.timeout(6 * 3_600),
]


def write_long_file(path: Path, minutes: int) -> list[float]:
    """Write a FLAC of faint noise, with the clip in the middle of every tenth minute and at the very end.

    Returns:
        the times in seconds at which the clip begins.
    """
    clip, rate = soundfile.read(CLIP, dtype="int16")
    assert rate == RATE
    rng = np.random.default_rng(1)
    begins = []
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:
        for minute in range(minutes):
            block = rng.integers(-2, 3, 60 * RATE, dtype=np.int16)
            at = len(block) - len(clip) if minute == minutes - 1 else 30 * RATE
            if minute % 10 == 0 or minute == minutes - 1:
                block[at : at + len(clip)] = clip
                begins.append(minute * 60 + at / RATE)
            file.write(block)
    return begins


def check_words(finals: list[Final], begins: list[float]) -> None:
    """Every clip has its words, and the last word of each is where it is in the first one, within the tolerance."""
    spoken = [final for final in finals if final.text]
    assert [final.text for final in spoken] == [TEXT] * len(begins)
    last_ms = [final.words[-1].end_ms - 1_000 * begin for final, begin in zip(spoken, begins, strict=True)]
    assert 4_000 < last_ms[0] < 5_250 + TIME_TOLERANCE_MS, "the clip has 5.25 s"
    assert last_ms == pytest.approx([last_ms[0]] * len(last_ms), abs=TIME_TOLERANCE_MS)


class MemoryWatch:
    """The memory of a process, as the audio advances."""

    def __init__(self, pid: int, total_ms: int) -> None:
        self._process = psutil.Process(pid)
        self._total_ms = total_ms
        self._early = 0
        self._late = 0

    def __call__(self, audio_ms: int) -> None:
        size = self._process.memory_info().rss
        if audio_ms < self._total_ms / 3:
            self._early = max(self._early, size)
        else:
            self._late = max(self._late, size)

    @property
    def growth(self) -> int:
        assert self._early
        assert self._late
        return self._late - self._early


@pytest.mark.parametrize(
    "minutes", [2, pytest.param(360, marks=pytest.mark.slow)], ids=["2 minutes", "6 hours"]
)
def test_a_long_file_is_recognised_locally_in_flat_memory(tmp_path: Path, minutes: int) -> None:
    begins = write_long_file(tmp_path / "long.flac", minutes)
    model = load_model("en-small")
    watch = MemoryWatch(os.getpid(), minutes * 60_000)

    def watched(file: SoundFile) -> Iterator[Samples]:
        samples = 0
        for block in file.samples(RATE):
            samples += len(block)
            watch(1_000 * samples // RATE)
            yield block

    with SoundFile(tmp_path / "long.flac") as file:
        messages = list(transcribe_blocks(model, watched(file), START))
    check_words([message for message in messages if isinstance(message, Final)], begins)
    assert watch.growth < GROWTH_BYTES


@pytest.fixture(scope="module")
def english_daemon() -> Iterator[Daemon]:
    """A daemon with the packaged model."""
    with run_daemon("--model", "en-small") as running:
        yield running


@pytest.mark.parametrize(
    "minutes", [2, pytest.param(30, marks=pytest.mark.slow)], ids=["2 minutes", "30 minutes"]
)
async def test_a_long_file_is_recognised_by_the_daemon_in_flat_memory(
    tmp_path: Path, english_daemon: Daemon, minutes: int
) -> None:
    begins = write_long_file(tmp_path / "long.flac", minutes)
    watches = [MemoryWatch(pid, minutes * 60_000) for pid in (os.getpid(), english_daemon.process.pid)]

    def on_progress(ms: int) -> None:
        for watch in watches:
            watch(ms)

    with SoundFile(tmp_path / "long.flac") as file:
        finals = await transcribe_file(english_daemon.url, START, file, on_progress=on_progress)
    check_words(finals, begins)
    assert [watch.growth < GROWTH_BYTES for watch in watches] == [True, True]


def test_listen_labels_the_channels_of_a_file_like_transcribe(
    tmp_path: Path, english_daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    left, _ = soundfile.read(CLIP, dtype="int16")
    right, _ = soundfile.read(CLIPS / "5789-70653-0013.flac", dtype="int16")
    both = np.zeros((max(len(left), len(right)) + RATE, 2), dtype=np.int16)
    both[: len(left), 0] = left
    both[: len(right), 1] = right
    file, save = tmp_path / "call.wav", tmp_path / "call.srt"
    soundfile.write(file, both, RATE)
    flags = ["--channels", "each", "--url", english_daemon.url]
    assert main(["transcribe", str(file), *flags]) == 0
    expected = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[0] for line in expected} == {"left", "right"}
    assert f"left: {TEXT}" in expected
    assert main(["listen", "--file", str(file), *flags, "--save", str(save)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(expected)
    saved = "\n".join(line for line in save.read_text().splitlines() if "-->" not in line)
    for label in ("left: ", "right: "):
        assert saved.count(label) == sum(line.startswith(label) for line in expected)
    assert all(line.split()[-1] in saved for line in expected)
