"""Test playing the channels of a file apart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import soundfile

from streamasr.media.inputs import AudioInput
from streamasr.protocol.audio import AudioFormat
from streamasr.protocol.messages import Final, Partial, WordTiming
from streamasr_client.live import LiveEvent
from streamasr_client.split import SplitFile
from streamasr_client.terminal import LabelledView


async def test_each_channel_is_a_source_of_its_own(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-9_000, 9_000, (5_000, 2), dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 8_000)

    async def no_sleep(seconds: float) -> None:
        return None

    split = SplitFile(AudioInput(tmp_path / "a.wav", "a.wav"), sleep=no_sleep)
    assert list(split.channels) == ["left", "right"]
    received: dict[str, bytes] = {}

    async def receive(label: str) -> None:
        received[label] = b"".join([block async for block in split.channels[label]])

    await asyncio.gather(split.play(), receive("left"), receive("right"))
    assert split.channels["left"].format == AudioFormat(8_000, 1, "pcm_s16le")
    for number, label in enumerate(("left", "right")):
        assert np.array_equal(np.frombuffer(received[label], "<i2"), samples[:, number])
    assert (split.warnings, split.incomplete_at_s) == ([], None)


def test_labels_are_shown_before_captions() -> None:
    shown: list[LiveEvent] = []

    class Recorder:
        def show(self, event: LiveEvent) -> None:
            shown.append(event)

        def show_level(self, dbfs: float) -> None: ...

        def show_overrun(self, blocks: int) -> None: ...

        def show_microphone(self, problem: str) -> None: ...

    view = LabelledView(Recorder(), "right")
    word = WordTiming(word="yes", start_ms=0, end_ms=300, confidence=1.0)
    view.show(Partial(utterance=0, committed="", tail="yes", start_ms=0, end_ms=300))
    view.show(Final(utterance=0, text="yes", confidence=1.0, start_ms=0, end_ms=300, words=(word,)))
    partial, final = shown
    assert isinstance(partial, Partial)
    assert (partial.committed, partial.tail) == ("right:", "yes")
    assert isinstance(final, Final)
    assert (final.text, final.words[0].word) == ("right: yes", "yes")
