"""The native protocol's messages, version 1, as frozen dataclasses: one vocabulary for daemon and clients.

Knows neither sockets nor audio. ``docs/protocol.md`` describes every field; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from streamasr.errors import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class HotwordSpec:
    """A word or phrase to listen for; ``boost`` in natural-log units, ``None`` for the model's default."""

    text: str
    boost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointingSpec:
    """Per-session endpoint rules in milliseconds of audio; ``None`` keeps the model's own."""

    silence_ms: int | None = None
    start_silence_ms: int | None = None
    max_utterance_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilitySpec:
    """How sure a session wants words to be before they are shown and committed; ``None`` keeps the model's own."""

    commit_margin: float | None = None
    hold_words: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Opens the session; always the first message."""

    type: ClassVar[str] = "start"
    sample_rate: int = 16_000
    encoding: str = "pcm_s16le"
    channels: int = 1
    latency_ms: int = 640
    partials: bool = True
    words: bool = True
    alternatives: int = 1
    hotwords: tuple[HotwordSpec, ...] = ()
    endpointing: EndpointingSpec = field(default_factory=EndpointingSpec)
    stability: StabilitySpec = field(default_factory=StabilitySpec)
    format: Literal["plain", "written"] = "plain"
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize:
    """Flush what has been heard, answer with its final and then ``finalized``."""

    type: ClassVar[str] = "finalize"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Change the hotwords of a running session, from the next utterance frame on."""

    type: ClassVar[str] = "configure"
    hotwords: tuple[HotwordSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """Nothing to say, still there."""

    type: ClassVar[str] = "keepalive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """No more audio: send the last finals, then ``done``, then close with 1000."""

    type: ClassVar[str] = "stop"


ClientMessage = Start | Finalize | Configure | KeepAlive | Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class WordTiming:
    """A word with its place in the session's audio and the estimated probability that it is right."""

    word: str
    start_ms: int
    end_ms: int
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A further reading of a finished utterance."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The session is open; audio may be sent. ``latency_ms`` is the chunk size really used.

    ``hop_ms`` is the audio by which the stream moves on in a step; ``None`` where a server says nothing of it: whole
    chunks.
    """

    type: ClassVar[str] = "ready"
    session: str
    sample_rate: int
    latency_ms: int
    hop_ms: int | None = None
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """The first word of an utterance began at ``at_ms``."""

    type: ClassVar[str] = "speech_started"
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """The utterance so far. ``committed`` only ever grows; ``tail`` may change with the next message."""

    type: ClassVar[str] = "partial"
    utterance: int
    committed: str
    tail: str
    start_ms: int
    end_ms: int
    words: tuple[WordTiming, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Final:
    """A finished utterance."""

    type: ClassVar[str] = "final"
    utterance: int
    text: str
    confidence: float
    start_ms: int
    end_ms: int
    words: tuple[WordTiming, ...] = ()
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalized:
    """Answers ``finalize``: all audio sent before it is in finals sent before this."""

    type: ClassVar[str] = "finalized"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning:
    """Something the client should know; the session goes on."""

    type: ClassVar[str] = "warning"
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The session ends; says whose fault it was and when to try again, if ever."""

    type: ClassVar[str] = "error"
    code: str
    message: str
    fault: Fault
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """Answers ``stop``: everything has been said about ``audio_ms`` of audio."""

    type: ClassVar[str] = "done"
    audio_ms: int


ServerMessage = Ready | SpeechStarted | Partial | Final | Finalized | Warning | Error | Done
