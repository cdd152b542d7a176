"""Test that a recording has the same words and times wherever it is in a session and however the session ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Done, Final, ServerMessage, Start, WordTiming
from streamasr.recognition.local import LocalSession
from streamasr.recognition.model import LoadedModel, load_model

BLOCK_S = 10
TRAILING_S = 2
FRAME_MS = 20
CLIP = "481-123719-0000"
"""A recording with the same text at every alignment of its chunks."""


@pytest.fixture(scope="module")
def model(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu")


@pytest.fixture(scope="module")
def clip(repository: Path, model: LoadedModel) -> Samples:
    clips = read_manifest(repository / "tests" / "data" / "librispeech" / "manifest.jsonl")
    (path,) = (utterance.audio for utterance in clips if utterance.audio.stem == CLIP)
    return read_audio(path, model.sample_rate)


def words_at(
    model: LoadedModel, clip: Samples, seconds: int, *, finalize_every_s: int = 0
) -> list[WordTiming]:
    """The words of ``clip`` after so many seconds of silence, with times from its start.

    Every word lasts some time and ends before the next one begins and before the session's audio does.
    """
    session, messages = LocalSession(model, Start()), list[ServerMessage]()
    rate = model.sample_rate
    for at in range(0, seconds, BLOCK_S):
        messages += session.feed(np.zeros(min(BLOCK_S, seconds - at) * rate, dtype=np.float32))
        if finalize_every_s and at // finalize_every_s != (at + BLOCK_S) // finalize_every_s:
            messages += session.finalize()
    messages += session.feed(np.concatenate((clip, np.zeros(TRAILING_S * rate, dtype=np.float32))))
    messages += session.stop()
    words = [word for message in messages if isinstance(message, Final) for word in message.words]
    done = messages[-1]
    assert isinstance(done, Done)
    starts = [*(word.start_ms for word in words), done.audio_ms]
    assert all(word.start_ms < word.end_ms <= then for word, then in zip(words, starts[1:], strict=True))
    assert all(word.start_ms >= 1000 * seconds for word in words)
    return [
        WordTiming(
            word=word.word,
            start_ms=word.start_ms - 1000 * seconds,
            end_ms=word.end_ms - 1000 * seconds,
            confidence=word.confidence,
        )
        for word in words
    ]


@pytest.fixture(scope="module")
def at_once(model: LoadedModel, clip: Samples) -> list[WordTiming]:
    """The words of the clip at the beginning of a session."""
    return words_at(model, clip, 0)


@pytest.mark.parametrize("level", [1, 2, 8])
def test_faint_noise_starts_no_speech(model: LoadedModel, level: int) -> None:
    """Neither words nor ``speech_started``, in samples of up to ``level`` steps of 16 bits."""
    samples = np.random.default_rng(level).integers(-level, level + 1, 8 * model.sample_rate)
    session = LocalSession(model, Start())
    messages = [*session.feed((samples / 32_768).astype(np.float32)), *session.stop()]
    assert messages == [Done(audio_ms=8_000)]


def assert_same(words: list[WordTiming], expected: list[WordTiming]) -> None:
    assert [word.word for word in words] == [word.word for word in expected]
    for word, other in zip(words, expected, strict=True):
        assert abs(word.start_ms - other.start_ms) <= FRAME_MS
        assert abs(word.end_ms - other.end_ms) <= FRAME_MS


def test_the_clip_has_its_words(at_once: list[WordTiming]) -> None:
    text = "it was followed by remorse i tried to drive it away i felt too sick"
    assert " ".join(word.word for word in at_once) == text


@pytest.mark.parametrize("finalize_every_s", [0, 3])
@pytest.mark.parametrize("seconds", [6, 60])
def test_times_are_the_same_after_silence_and_finalize(
    model: LoadedModel, clip: Samples, at_once: list[WordTiming], seconds: int, finalize_every_s: int
) -> None:
    assert_same(words_at(model, clip, seconds, finalize_every_s=finalize_every_s), at_once)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seconds", [600, 3600])
@pytest.mark.parametrize("finalize_every_s", [0, 60])
def test_times_are_the_same_after_an_hour(
    model: LoadedModel, clip: Samples, at_once: list[WordTiming], seconds: int, finalize_every_s: int
) -> None:
    assert_same(words_at(model, clip, seconds, finalize_every_s=finalize_every_s), at_once)


def cut_behind_the_last_sound(samples_S: Samples, rate: int) -> Samples:
    """The samples up to the last 10 ms that are less than 30 dB quieter than the loud ones."""
    hop = rate // 100
    frames = len(samples_S) // hop
    power = np.square(samples_S[: frames * hop]).reshape(frames, hop).mean(axis=1)
    loud = np.flatnonzero(power > np.percentile(power, 95) / 1000)
    return samples_S[: (loud[-1] + 1) * hop]


def words_and_times(messages: list[ServerMessage], offset_ms: int = 0) -> list[tuple[str, int, int]]:
    return [
        (word.word, word.start_ms - offset_ms, word.end_ms - offset_ms)
        for message in messages
        if isinstance(message, Final)
        for word in message.words
    ]


@pytest.mark.parametrize("latency_ms", [160, 320, 640, 1280])
@pytest.mark.parametrize("name", ["2136-5147-0011", "5789-70653-0013"])
def test_a_recording_that_ends_with_its_last_word_has_the_words_that_silence_behind_it_gives(
    repository: Path, model: LoadedModel, name: str, latency_ms: int
) -> None:
    (utterance,) = (
        utterance
        for utterance in read_manifest(repository / "tests" / "data" / "librispeech" / "manifest.jsonl")
        if utterance.audio.stem == name
    )
    cut = cut_behind_the_last_sound(read_audio(utterance.audio, model.sample_rate), model.sample_rate)
    start = Start(latency_ms=latency_ms)
    session = LocalSession(model, start)
    finalized = words_and_times(session.feed(cut) + session.finalize())
    stopped = words_and_times(session.feed(cut) + session.stop(), len(cut) * 1000 // model.sample_rate)
    session = LocalSession(model, start)
    silence = np.zeros(TRAILING_S * model.sample_rate, dtype=np.float32)
    with_silence = words_and_times(session.feed(np.concatenate((cut, silence))) + session.stop())
    assert finalized == stopped
    assert [word for word, _, _ in stopped] == [word for word, _, _ in with_silence]
    assert stopped[-1][0] == utterance.text.split()[-1]
