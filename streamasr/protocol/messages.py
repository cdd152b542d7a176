"""Define the messages of the native protocol, version 1, as frozen dataclasses.

``docs/protocol.md`` describes every field; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from streamasr.errors import Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class HotwordSpec:
    """A word or phrase to make more likely; ``boost`` is a natural log, ``None`` for the model's default."""

    text: str
    boost: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointingSpec:
    """Per-session endpoint rules in milliseconds of audio; ``None`` keeps the model's value.

    ``silence_ms`` is a fixed silence; ``min_silence_ms`` and ``max_silence_ms`` bound one that depends on the words.
    """

    silence_ms: int | None = None
    min_silence_ms: int | None = None
    max_silence_ms: int | None = None
    start_silence_ms: int | None = None
    max_utterance_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StabilitySpec:
    """How certain words must be before they are shown and committed; ``None`` keeps the model's value."""

    commit_margin: float | None = None
    hold_words: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Open the session. This is the first message, except for ``keepalive``."""

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
    ending_threshold: float | None = None
    stability: StabilitySpec = field(default_factory=StabilitySpec)
    format: Literal["plain", "written"] = "plain"
    token: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finalize:
    """Finish the audio so far: the server sends its final, then ``finalized``."""

    type: ClassVar[str] = "finalize"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configure:
    """Replace the hotwords of a running session, for the audio that follows."""

    type: ClassVar[str] = "configure"
    hotwords: tuple[HotwordSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepAlive:
    """Keep an idle session open."""

    type: ClassVar[str] = "keepalive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End the audio. The server sends the last finals and ``done``, then closes with code 1000."""

    type: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Continue a session whose connection broke, instead of ``start``. ``seq`` is the next message to receive."""

    type: ClassVar[str] = "resume"
    token: str
    seq: int = 0


ClientMessage = Start | Finalize | Configure | KeepAlive | Stop | Resume


@dataclass(frozen=True, slots=True, kw_only=True)
class WordTiming:
    """A word, its times in the session's audio, and the estimated probability that it is correct."""

    word: str
    start_ms: int
    end_ms: int
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another hypothesis of a finished utterance."""

    text: str
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HotwordReading:
    """How the server reads a hotword: in the spelling of its model. ``None`` means that it cannot be used."""

    text: str
    read_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The session is open, and the client may send audio.

    ``latency_ms`` is the audio of one step (the chunk), ``hop_ms`` the audio from one step to the next. ``None``
    means that it equals ``latency_ms``. ``hotwords`` has the reading of each hotword of ``start``, in their order.
    ``resume`` is the token that resumes the session for ``resume_for_ms`` after its connection broke.
    """

    type: ClassVar[str] = "ready"
    session: str
    sample_rate: int
    latency_ms: int
    hop_ms: int | None = None
    model: str
    hotwords: tuple[HotwordReading, ...] = ()
    resume: str | None = None
    resume_for_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The answer to ``resume``. Messages from ``resume.seq`` on follow, and the client sends its audio from
    ``audio_samples`` on. ``requests`` counts the ``finalize``, ``configure`` and ``stop`` that were received.
    """

    type: ClassVar[str] = "resumed"
    session: str
    audio_samples: int
    requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """The first word of an utterance began at ``at_ms``."""

    type: ClassVar[str] = "speech_started"
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """The utterance so far. ``committed`` only grows; ``tail`` may change with the next message."""

    type: ClassVar[str] = "partial"
    utterance: int
    committed: str
    tail: str
    start_ms: int
    end_ms: int
    words: tuple[WordTiming, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceEnding:
    """The utterance is likely to end here, with this text. A ``partial`` of the same utterance takes that back.

    Sent only if ``start.ending_threshold`` asks for it.
    """

    type: ClassVar[str] = "utterance_ending"
    utterance: int
    probability: float
    text: str
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
    """The answer to ``finalize``. The finals of all audio before it have been sent."""

    type: ClassVar[str] = "finalized"
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Warning:
    """A problem that the client should know about. The session continues."""

    type: ClassVar[str] = "warning"
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The session has failed. ``retry_after_ms`` is set if a later attempt may succeed."""

    type: ClassVar[str] = "error"
    code: str
    message: str
    fault: Fault
    retry_after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer to ``stop``. All results for ``audio_ms`` of audio have been sent."""

    type: ClassVar[str] = "done"
    audio_ms: int


ServerMessage = (
    Ready | Resumed | SpeechStarted | Partial | UtteranceEnding | Final | Finalized | Warning | Error | Done
)
