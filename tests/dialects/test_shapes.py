"""Test that answers and events have every field that the models of the clients' packages need.

The packages themselves do not check that: a missing field shows up as an error in the user's program.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from deepgram.listen.v1.types.listen_v1metadata import ListenV1Metadata
from deepgram.listen.v1.types.listen_v1results import ListenV1Results
from deepgram.listen.v1.types.listen_v1speech_started import ListenV1SpeechStarted
from deepgram.listen.v1.types.listen_v1utterance_end import ListenV1UtteranceEnd
from deepgram.listen.v2.types.listen_v2connected import ListenV2Connected
from deepgram.listen.v2.types.listen_v2fatal_error import ListenV2FatalError
from deepgram.listen.v2.types.listen_v2turn_info import ListenV2TurnInfo
from deepgram.listen.v2.types.listen_v2warning import ListenV2Warning
from deepgram.types.listen_v1response import ListenV1Response
from openai.types import Model
from openai.types.audio import Transcription, TranscriptionStreamEvent, TranscriptionVerbose
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel, TypeAdapter

from streamasr.dialects.base import LiveDialect, Reply, Request
from streamasr.dialects.conversation import Conversation
from streamasr.dialects.deepgram_flux import FluxDialect
from streamasr.dialects.deepgram_live import DeepgramLiveDialect
from streamasr.dialects.deepgram_prerecorded import PrerecordedDialect
from streamasr.dialects.openai_realtime import RealtimeDialect
from streamasr.dialects.openai_rest import ModelsDialect, TranscriptionsDialect
from streamasr.protocol.messages import (
    Done,
    Error,
    Finalized,
    Ready,
    ServerMessage,
    SpeechStarted,
    UtteranceEnding,
)
from streamasr.protocol.messages import Warning as WarningMessage
from streamasr.protocol.model_info import ModelInfo
from tests.dialects.test_deepgram import PCM, final, partial, request, words

MODEL = ModelInfo(name="en-small", language="en")
READY = Ready(session="s", sample_rate=16_000, latency_ms=640, model="en-small")
DONE = Done(audio_ms=9_000)
HEARD: tuple[ServerMessage, ...] = (
    SpeechStarted(at_ms=0),
    partial(0, "one", "tow"),
    UtteranceEnding(
        utterance=0, probability=0.6, text="one two", start_ms=0, end_ms=900, words=words("one", "two")
    ),
    final(0, "one", "two"),
    WarningMessage(code="backlog", message="late"),
    final(1, "three", start_ms=5_000),
)


def live(dialect: LiveDialect, asked: Request, frames: list[Any], *messages: ServerMessage) -> list[Any]:
    """Return all that a client gets for its frames and for the engine's messages, as JSON."""
    conversation = Conversation(dialect.open(asked))
    items = list(conversation.opened())
    for frame in frames:
        items += conversation.receive(json.dumps(frame) if isinstance(frame, dict) else frame)
    sent = [READY, *(item for item in items if isinstance(item, Reply)), *messages]
    return [json.loads(frame) for message in sent for frame in conversation.send(message)]


def realtime(beta: bool, *frames: dict[str, Any]) -> list[Any]:
    asked = Request(
        id="0123456789",
        received_at="",
        path="/v1/realtime",
        values={},
        headers={"openai-beta": "realtime=v1"} if beta else {},
        model=MODEL,
    )
    update = {"type": "session.update", "session": {"type": "transcription"}}
    append = {"type": "input_audio_buffer.append", "audio": "AAAA"}
    end = Error(code="internal", message="m", fault="server")
    return live(RealtimeDialect(), asked, [update, append, *frames, {"type": "x"}], *HEARD, Finalized(), end)


@pytest.mark.parametrize("beta", [False, True])
@pytest.mark.parametrize("commits", [0, 1, 2])
@pytest.mark.parametrize("cleared", [False, True])
def test_realtime_events(beta: bool, commits: int, cleared: bool) -> None:
    append = {"type": "input_audio_buffer.append", "audio": "AAAA"}
    frames = [{"type": "input_audio_buffer.commit"}, append] * commits
    sent = realtime(beta, *frames, *([{"type": "input_audio_buffer.clear"}] if cleared else []))
    adapter: TypeAdapter[Any] = TypeAdapter(RealtimeServerEvent)
    for event in sent:
        if not event["type"].startswith("transcription_session."):
            found = adapter.validate_python(event)
            assert found.type == event["type"], "no other kind of event fits"
    assert len({event["event_id"] for event in sent}) == len(sent)


def upload(dialect: TranscriptionsDialect | PrerecordedDialect, **query: Any) -> tuple[list[bytes], bytes]:
    translation = dialect.open(request(**query))
    parts = [part for message in (READY, *HEARD, DONE) for part in translation.send(message)]
    return parts, translation.answer().body


@pytest.mark.parametrize("granularity", ["word", "segment"])
def test_transcriptions(granularity: str) -> None:
    _, answer = upload(TranscriptionsDialect())
    assert Transcription.model_validate_json(answer).usage is not None
    query = {"response_format": "verbose_json", "timestamp_granularities[]": granularity}
    _, answer = upload(TranscriptionsDialect(), **query)
    verbose = TranscriptionVerbose.model_validate_json(answer)
    assert (verbose.words is None, verbose.segments is None) == (
        granularity == "segment",
        granularity == "word",
    )


def test_streamed_transcriptions() -> None:
    parts, _ = upload(TranscriptionsDialect(), stream="true")
    adapter: TypeAdapter[Any] = TypeAdapter(TranscriptionStreamEvent)
    found = [adapter.validate_json(part.removeprefix(b"data: ")).type for part in parts]
    assert found == ["transcript.text.delta"] * 3 + ["transcript.text.done"]


def test_models() -> None:
    page = request()
    for path in ("/v1/models", "/v1/models/en-small"):
        asked = Request(
            id=page.id, received_at=page.received_at, path=path, values={}, headers={}, model=page.model
        )
        value = json.loads(ModelsDialect().page(asked).body)
        for model in value.get("data", [value]):
            Model.model_validate(model)


LIVE_MODELS: dict[str, type[BaseModel]] = {
    "Results": ListenV1Results,
    "Metadata": ListenV1Metadata,
    "SpeechStarted": ListenV1SpeechStarted,
    "UtteranceEnd": ListenV1UtteranceEnd,
}
TURN_MODELS: dict[str, type[BaseModel]] = {
    "Connected": ListenV2Connected,
    "TurnInfo": ListenV2TurnInfo,
    "Warning": ListenV2Warning,
    "Error": ListenV2FatalError,
}


@pytest.mark.parametrize("smart_format", ["true", "false"])
def test_deepgrams_messages(smart_format: str) -> None:
    query = {
        **PCM,
        "interim_results": "true",
        "vad_events": "true",
        "utterance_end_ms": "1000",
        "smart_format": smart_format,
        "diarize": "true",
    }
    frames = [b"ab", {"type": "Finalize"}, {"type": "CloseStream"}]
    sent = live(DeepgramLiveDialect(), request(**query), frames, *HEARD, Finalized(), DONE)
    assert {value["type"] for value in sent} == set(LIVE_MODELS)
    for value in sent:
        LIVE_MODELS[value["type"]].model_validate(value)


def test_deepgrams_turns() -> None:
    query = {**PCM, "eager_eot_threshold": "0.5", "eot_threshold": "0.7"}
    sent = live(
        FluxDialect(), request(**query), [b"ab"], *HEARD, Error(code="internal", message="m", fault="server")
    )
    assert {value["type"] for value in sent} == set(TURN_MODELS)
    for value in sent:
        TURN_MODELS[value["type"]].model_validate(value)


def test_deepgrams_recordings() -> None:
    _, answer = upload(PrerecordedDialect(), utterances="true", smart_format="true", topics="true")
    found = ListenV1Response.model_validate_json(answer)
    assert found.results.utterances
    warnings: Any = found.metadata.model_extra
    assert [set(warning) for warning in warnings["warnings"]] == [{"parameter", "type", "message"}] * 2
