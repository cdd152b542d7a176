"""Check what a ``start`` message asks for, and complete it with the model's own settings."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

from streamasr.config import EndpointConfig, StabilityConfig
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.errors import ConfigError, ProtocolError
from streamasr.formatting import Formatter, formatter_for
from streamasr.frontend.pcm import CHANNELS, ENCODINGS, Encoding
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import EndpointingSpec, StabilitySpec, Start
from streamasr.punctuation.base import Punctuator
from streamasr.recognition.hotwords import ReadHotwords, read_hotwords
from streamasr.recognition.model import LoadedModel
from streamasr.toml import in_table

SettingsT = TypeVar("SettingsT", EndpointConfig, StabilityConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """The options of one session after :func:`resolve_options`."""

    sample_rate: int
    """Hz of the audio that is sent; the model's own rate may differ."""
    encoding: Encoding
    channels: int
    chunk_frames: int
    """Encoder frames of a chunk, which is the session's latency."""
    words: bool
    """Whether messages contain word times."""
    formatter: Formatter | None = None
    """The rules for writing numbers and capitals; ``None`` for words as spoken."""
    punctuator: Punctuator | None = None
    """Decides on capitals and marks; ``None`` for those of the rules."""
    hotwords: ReadHotwords
    """How the hotwords were read; the usable ones are also part of ``decoding``."""
    decoding: UtteranceOptions


def resolve_options(start: Start, model: LoadedModel) -> SessionOptions:
    """Check ``start``, and use the model's own settings where it sets none.

    Hotwords that the model cannot spell are left out; ``hotwords.problems`` names them.

    Raises:
        ProtocolError: a value is not supported; the message says which ones are.
    """
    if start.encoding not in ENCODINGS:
        raise ProtocolError(f"start.encoding: expected one of {', '.join(ENCODINGS)}, got {start.encoding!r}")
    if start.channels not in CHANNELS:
        raise ProtocolError(f"start.channels: expected 1 or 2, got {start.channels}")
    if start.sample_rate not in DEFAULT_LIMITS.sample_rate:
        raise ProtocolError(
            f"start.sample_rate: expected {DEFAULT_LIMITS.sample_rate} Hz, got {start.sample_rate}"
        )
    read = read_hotwords(start.hotwords, model)
    return SessionOptions(
        sample_rate=start.sample_rate,
        encoding=start.encoding,
        channels=start.channels,
        chunk_frames=model.chunk_frames_for(start.latency_ms),
        words=start.words,
        formatter=_formatter(start.format, model),
        punctuator=None if start.format == "plain" else model.punctuator,
        hotwords=read,
        decoding=UtteranceOptions(
            hotwords=read.hotwords,
            endpointing=_endpointing(start.endpointing, model.config.endpointing),
            ending_threshold=start.ending_threshold,
            stability=_override(start.stability, model.config.stability, "stability"),
            alternatives=start.alternatives,
            partials=start.partials,
        ),
    )


def _formatter(text_format: str, model: LoadedModel) -> Formatter | None:
    if text_format == "plain":
        return None
    try:
        return formatter_for(model.config.language)
    except ConfigError as error:
        if model.punctuator is not None:
            return None
        raise ProtocolError(f"start.format: {error.message}; leave it at 'plain'") from None


def _endpointing(spec: EndpointingSpec, default: EndpointConfig) -> EndpointConfig:
    """Return the model's rules with those of ``spec``.

    A ``silence_ms`` is a fixed silence. If one bound is missing, it is the model's, or the model's fixed silence.
    """
    if spec.silence_ms is not None:
        default = replace(default, min_silence_ms=None, max_silence_ms=None)
    elif spec.min_silence_ms is not None or spec.max_silence_ms is not None:
        shortest, longest = default.silence_bounds_ms
        default = replace(default, min_silence_ms=None, max_silence_ms=None)
        spec = replace(
            spec,
            min_silence_ms=shortest if spec.min_silence_ms is None else spec.min_silence_ms,
            max_silence_ms=longest if spec.max_silence_ms is None else spec.max_silence_ms,
        )
    return _override(spec, default, "endpointing")


def _override(spec: EndpointingSpec | StabilitySpec, default: SettingsT, name: str) -> SettingsT:
    """Return the model's settings, with those that ``spec`` sets in their place."""
    requested = {f.name: getattr(spec, f.name) for f in fields(spec)}
    try:
        with in_table(f"start.{name}"):
            return replace(default, **{key: value for key, value in requested.items() if value is not None})
    except ConfigError as error:
        raise ProtocolError(error.message) from None
