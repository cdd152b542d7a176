"""Test that no frame, query or form of any dialect causes anything but an explained refusal."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from streamasr.dialects.base import LiveDialect, RefusedError, Reply, Request
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.registry import load_dialects
from streamasr.dialects.upload import UploadDialect
from streamasr.errors import StreamasrError
from streamasr.protocol.messages import (
    Done,
    Final,
    Finalize,
    Finalized,
    Partial,
    Ready,
    ServerMessage,
    SpeechStarted,
    Start,
    Stop,
    UtteranceEnding,
    WordTiming,
)
from streamasr.protocol.messages import Warning as WarningMessage
from streamasr.protocol.model_info import ModelInfo
from streamasr.protocol.states import State
from tests.service.conftest import Launch, launch

__all__ = ["launch"]

EXAMPLES, FRAMES = 250, 40
"""10,000 frames for each dialect."""
VOCABULARY: dict[str, tuple[str, ...]] = {
    "deepgram": (
        "type",
        "KeepAlive",
        "Finalize",
        "CloseStream",
        "Configure",
        "keyterms",
        "features",
        "linear16",
    ),
    "openai_realtime": (
        "session.update",
        "transcription_session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "session",
        "audio",
        "input",
        "format",
        "transcription",
        "turn_detection",
        "silence_duration_ms",
        "language",
        "prompt",
        "audio/pcm",
        "AAAA",
    ),
    "vosk": (
        "config",
        "eof",
        "reset",
        "words",
        "sample_rate",
        "max_alternatives",
        "phrase_list",
        "partial_words",
    ),
}
"""Words of a dialect's messages, so that some of those made up are nearly right."""
PARAMETERS = (
    "alternatives", "callback", "channels", "chunking_strategy", "diarize", "encoding", "endpointing",
    "interim_results", "keyterm", "keywords", "language", "model", "prompt", "punctuate", "response_format",
    "sample_rate", "smart_format", "stream", "timestamp_granularities[]", "utterance_end_ms", "utterances",
)  # fmt: skip
VALUES = (
    "true",
    "false",
    "",
    "0",
    "1",
    "2",
    "16000",
    "8000",
    "linear16",
    "mulaw",
    "en",
    "word",
    "json",
    "srt",
    "a:1",
)

LIVE = [dialect for dialect in load_dialects() if isinstance(dialect, LiveDialect)]
UPLOADS = [dialect for dialect in load_dialects() if isinstance(dialect, UploadDialect)]

words = st.builds(
    WordTiming,
    word=st.text(),
    start_ms=st.integers(0, 10**7),
    end_ms=st.integers(0, 10**7),
    confidence=st.floats(0, 1),
)
messages = st.one_of(
    st.builds(
        Ready, session=st.just("s"), sample_rate=st.just(16_000), latency_ms=st.just(640), model=st.just("m")
    ),
    st.builds(SpeechStarted, at_ms=st.integers(0, 10**7)),
    st.builds(
        UtteranceEnding,
        utterance=st.integers(0, 9),
        probability=st.floats(0, 1),
        text=st.text(),
        start_ms=st.integers(0, 10**7),
        end_ms=st.integers(0, 10**7),
    ),
    st.builds(
        Partial,
        utterance=st.integers(0, 9),
        committed=st.text(),
        tail=st.text(),
        start_ms=st.integers(0, 10**7),
        end_ms=st.integers(0, 10**7),
        words=st.tuples(words),
    ),
    st.builds(
        Final,
        utterance=st.integers(0, 9),
        text=st.text(),
        confidence=st.floats(0, 1),
        start_ms=st.integers(0, 10**7),
        end_ms=st.integers(0, 10**7),
        words=st.tuples(words),
    ),
    st.builds(WarningMessage, code=st.just("backlog"), message=st.text()),
)
queries = st.dictionaries(
    st.sampled_from(PARAMETERS) | st.text(),
    st.tuples(st.sampled_from(VALUES) | st.text()),
    max_size=6,
)


def request(path: str, values: dict[str, Any]) -> Request:
    model = ModelInfo(name="en-small", language="en")
    return Request(id="i", received_at="t", path=path, values=values, headers={}, model=model)


def frames(name: str) -> st.SearchStrategy[str | bytes]:
    known = st.sampled_from(VOCABULARY.get(name, ("type",)))
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | known | st.just("\ud800"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known | st.text(), inner, max_size=3),
        max_leaves=5,
    )
    typed = st.builds(
        lambda kind, rest: {**rest, "type": kind}, known, st.dictionaries(known, values, max_size=3)
    )
    return st.one_of(
        st.binary(max_size=200),
        st.text(max_size=50),
        values.map(json.dumps),
        typed.map(json.dumps),
        st.just("[" * 3_000),
        st.sampled_from([b"RIFF", b"RIFF\0\0\0\0WAVEfmt ", b"data\0\0\0\0"]),
    )


def made_up(frame: st.SearchStrategy[str | bytes], sessions: int, count: int) -> list[list[str | bytes]]:
    """Return the frames of so many sessions, ``count`` in each."""
    found: list[list[str | bytes]] = []

    @settings(max_examples=sessions, database=None)
    @given(sent=st.lists(frame, min_size=count, max_size=count))
    def collect(sent: list[str | bytes]) -> None:
        found.append(sent)

    collect()
    return found


class Session:
    """A stand-in for the engine: it answers what the protocol says must be answered, and sometimes emits more."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def take(self, incoming: object) -> None:
        answers: dict[type, ServerMessage] = {
            Start: Ready(session="s", sample_rate=16_000, latency_ms=640, model="m"),
            Finalize: Finalized(id=getattr(incoming, "id", "")),
            Stop: Done(audio_ms=1),
        }
        if isinstance(incoming, Reply):
            self.emit(incoming)
        elif type(incoming) in answers:
            self.emit(answers[type(incoming)])

    def emit(self, message: ServerMessage | Reply) -> None:
        for frame in self._conversation.send(message):
            assert isinstance(frame, (str, bytes))
            if isinstance(frame, str):
                frame.encode()


@pytest.mark.parametrize("dialect", LIVE, ids=lambda dialect: str(dialect.name))
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_frames_are_translated_or_refused(dialect: LiveDialect, data: st.DataObject) -> None:
    try:
        translation = dialect.open(request(dialect.paths[0], data.draw(queries)))
    except RefusedError as error:
        assert dialect.refuse(error.refusal).body  # noqa: PT017
        pcm = {"encoding": ("linear16",), "sample_rate": ("16000",)}
        translation = dialect.open(request(dialect.paths[0], pcm))
    conversation = Conversation(translation)
    session = Session(conversation)
    try:
        for item in conversation.opened():
            session.take(item)
        for frame in data.draw(st.lists(frames(dialect.name), min_size=FRAMES, max_size=FRAMES)):
            for item in conversation.receive(frame):
                session.take(item)
            if conversation.state is State.STREAMING and data.draw(st.booleans()):
                session.emit(data.draw(messages))
            if conversation.state is State.CLOSED:
                return
    except StreamasrError as error:
        refused = error
    else:
        return
    assert refused.message
    assert refused.fault == "client"


@pytest.mark.parametrize("dialect", UPLOADS, ids=lambda dialect: str(dialect.paths[0]))
@settings(max_examples=EXAMPLES)
@given(data=st.data())
def test_any_form_is_accepted_or_refused(dialect: UploadDialect, data: st.DataObject) -> None:
    refusal = None
    try:
        upload = dialect.open(request(dialect.paths[0], data.draw(queries)))
    except RefusedError as error:
        refusal = error.refusal
    if refusal is not None:
        answer = dialect.refuse(refusal)
        assert 400 <= answer.status < 500
        assert json.loads(answer.body)
        return
    for message in (*data.draw(st.lists(messages, max_size=10)), Done(audio_ms=1)):
        for part in upload.send(message):
            assert part.startswith(b"data: ")
    assert upload.answer().status == 200  # silence as SRT has no body


@pytest.mark.parametrize("dialect", LIVE, ids=lambda dialect: str(dialect.name))
async def test_nonsense_disturbs_no_other_session(
    launch: Launch, dialect: LiveDialect, caplog: pytest.LogCaptureFixture
) -> None:
    harness = await launch()
    other = await harness.session()
    url = f"ws://127.0.0.1:{harness.port}{dialect.paths[0]}"
    query = "encoding=linear16&sample_rate=16000"
    for sent in made_up(frames(dialect.name), sessions=20, count=20):
        with suppress(ConnectionClosed):
            # The engine of this test answers no commit, and the daemon reads no further until it does: do not wait
            # for its side of the closing handshake.
            async with connect(f"{url}?{query}", proxy=None, close_timeout=0.2) as socket:
                for frame in sent:
                    await socket.send(frame)
    await other.send(b"ab")
    await (await other.socket.ping())
    assert harness.engine.sessions[0].audio == b"ab"
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
