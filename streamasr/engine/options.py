"""What a ``start`` message asks for, against what the model offers. Knows no slot and no thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from streamasr.config import EndpointConfig
from streamasr.decoding.hypothesis import Hotword
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.engine.model import LoadedModel
from streamasr.errors import ConfigError, ProtocolError
from streamasr.frontend.pcm import CHANNELS, ENCODINGS, Encoding
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import EndpointingSpec, HotwordSpec, Start


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a session really uses."""

    sample_rate: int
    encoding: Encoding
    channels: int
    chunk_frames: int
    """Encoder frames of one step; the session's latency."""
    words: bool
    """Whether messages carry word times."""
    decoding: UtteranceOptions


def resolve_options(start: Start, model: LoadedModel) -> SessionOptions:
    """Check ``start`` and fill in the model's own settings where it asks for nothing.

    Raises:
        ProtocolError: a value that cannot be served; it says what would be right.
    """
    if start.encoding not in ENCODINGS:
        raise ProtocolError(f"start.encoding: expected one of {', '.join(ENCODINGS)}, got {start.encoding!r}")
    if start.channels not in CHANNELS:
        raise ProtocolError(f"start.channels: expected 1 or 2, got {start.channels}")
    if start.sample_rate not in DEFAULT_LIMITS.sample_rate:
        raise ProtocolError(
            f"start.sample_rate: expected {DEFAULT_LIMITS.sample_rate} Hz, got {start.sample_rate}"
        )
    return SessionOptions(
        sample_rate=start.sample_rate,
        encoding=start.encoding,
        channels=start.channels,
        chunk_frames=model.chunk_frames_for(start.latency_ms),
        words=start.words,
        decoding=UtteranceOptions(
            hotwords=resolve_hotwords(start.hotwords, model),
            endpointing=_endpointing(start.endpointing, model.config.endpointing),
            alternatives=start.alternatives,
            partials=start.partials,
        ),
    )


def resolve_hotwords(specs: Iterable[HotwordSpec], model: LoadedModel) -> tuple[Hotword, ...]:
    """Hotwords with the model's own weight where they name none.

    Raises:
        ProtocolError: a hotword that the model cannot spell.
    """
    weight = model.config.decoder.hotword_weight
    hotwords = tuple(Hotword(s.text, weight if s.boost is None else s.boost) for s in specs)
    try:
        model.decoder.initial_state(replace(model.decoder.default_options(), hotwords=hotwords))
    except ConfigError as error:
        raise ProtocolError(f"hotwords: {error.message}") from None
    return hotwords


def _endpointing(spec: EndpointingSpec, default: EndpointConfig) -> EndpointConfig:
    asked = {
        name: value
        for name in ("silence_ms", "start_silence_ms", "max_utterance_ms")
        if (value := getattr(spec, name)) is not None
    }
    try:
        return replace(default, **asked)
    except ConfigError as error:
        raise ProtocolError(f"start.endpointing: {error.message}") from None
