"""The default model ends utterances of real speech in the look-ahead, the same however the audio is split."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from streamasr.frontend.pcm import Samples
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import (
    EndpointingSpec,
    Final,
    Partial,
    ServerMessage,
    Start,
    UtteranceEnding,
)
from streamasr.recognition.captions import Captioner
from streamasr.recognition.local import LocalSession
from streamasr.recognition.model import LoadedModel, load_model
from streamasr.recognition.options import resolve_options
from streamasr.recognition.streaming import stream_many
from tests.recognition.test_local import _Messages

RATE = 16_000
HOP_MS = 320
SILENCE_MS = 800
START = Start(endpointing=EndpointingSpec(silence_ms=SILENCE_MS), ending_threshold=0.3, words=False)


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load_model("en-small", "cpu", threads=1)


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Two short clips, each with 1.5 s of faint noise after it."""
    clips = read_manifest(Path(__file__).parents[1] / "data" / "l2" / "manifest.jsonl")
    rng = np.random.default_rng(1)
    noise_S = (1e-4 * rng.standard_normal(RATE * 3 // 2)).astype(np.float32)
    return np.concatenate([part for clip in clips for part in (read_audio(clip.audio, RATE), noise_S)])


def received(model: LoadedModel, speech: Samples, block: int) -> list[tuple[int, ServerMessage]]:
    """The messages of a session that gets blocks of samples, each with the ms of audio sent until then."""
    session, found = LocalSession(model, START), []
    for at in range(0, len(speech), block):
        sent_ms = min(at + block, len(speech)) * 1000 // RATE
        found += [(sent_ms, message) for message in session.feed(speech[at : at + block])]
    return [*found, *((len(speech) * 1000 // RATE, message) for message in session.stop())]


def test_a_final_comes_a_hop_after_its_silence_at_the_latest(model: LoadedModel, speech: Samples) -> None:
    found = received(model, speech, 320)
    finals = [(ms, message) for ms, message in found if isinstance(message, Final)]
    assert len(finals) >= 2
    for sent_ms, final in finals:
        # Silence is counted from a word's last token, which lies before the word's end.
        assert sent_ms - final.end_ms <= SILENCE_MS + HOP_MS
    kinds = [m for _, m in found if isinstance(m, Partial | UtteranceEnding | Final)]
    ended = [following for before, following in pairwise(kinds) if isinstance(before, UtteranceEnding)]
    assert any(isinstance(following, Final) for following in ended)
    for before, following in pairwise(kinds):
        if isinstance(before, UtteranceEnding) and isinstance(following, Final):
            assert (before.utterance, before.text) == (following.utterance, following.text)


def test_any_split_and_any_neighbours_give_the_same_messages(model: LoadedModel, speech: Samples) -> None:
    speech = speech[: 5 * RATE]
    whole = [message for _, message in received(model, speech, len(speech))]
    assert any(isinstance(message, Final) for message in whole)
    assert [message for _, message in received(model, speech, 7_777)] == whole
    options = resolve_options(START, model)
    streams = stream_many(
        model,
        [speech, speech[20_000:60_000]],
        options.chunk_frames,
        lambda: _Messages(Captioner(model, options)),
        slots=2,
    )
    (beside,) = [result.sink.messages for result in streams if result.index == 0]
    texts = [[m.text for m in messages if isinstance(m, Final)] for messages in (beside, whole)]
    assert texts[0] == texts[1]
