"""What a ``start`` message asks for, against what the model offers. Knows no slot and no thread."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from streamasr.config import EndpointConfig, StabilityConfig
from streamasr.decoding.hypothesis import Hotword
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.errors import ConfigError, ProtocolError
from streamasr.formatting import Formatter, formatter_for
from streamasr.frontend.pcm import CHANNELS, ENCODINGS, Encoding
from streamasr.protocol.limits import DEFAULT_LIMITS
from streamasr.protocol.messages import EndpointingSpec, HotwordSpec, StabilitySpec, Start
from streamasr.recognition.model import LoadedModel
from streamasr.toml import in_table

C = TypeVar("C", EndpointConfig, StabilityConfig)


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
    formatter: Formatter | None = None
    """How words are written; ``None`` for as they are said."""
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
        formatter=_formatter(start.format, model.config.language),
        decoding=UtteranceOptions(
            hotwords=resolve_hotwords(start.hotwords, model),
            endpointing=_chosen(start.endpointing, model.config.endpointing, "endpointing"),
            stability=_chosen(start.stability, model.config.stability, "stability"),
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


def unusable_hotwords(specs: Iterable[HotwordSpec], model: LoadedModel) -> list[str]:
    """Return why the model cannot use each of the hotwords that it cannot use; empty if it can use all."""
    problems = []
    for spec in specs:
        try:
            resolve_hotwords([spec], model)
        except ProtocolError as error:
            problems.append(error.message.removeprefix("hotwords: "))
    return problems


def _formatter(form: str, language: str) -> Formatter | None:
    if form == "plain":
        return None
    try:
        return formatter_for(language)
    except ConfigError as error:
        raise ProtocolError(f"start.format: {error.message}; leave it at 'plain'") from None


def _chosen(spec: EndpointingSpec | StabilitySpec, default: C, name: str) -> C:
    """The model's settings, with those that a session asks for in their place."""
    asked = {f.name: getattr(spec, f.name) for f in fields(spec)}
    try:
        with in_table(f"start.{name}"):
            return replace(default, **{key: value for key, value in asked.items() if value is not None})
    except ConfigError as error:
        raise ProtocolError(error.message) from None
