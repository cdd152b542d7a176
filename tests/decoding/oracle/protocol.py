"""Define the methods that the native decoder and the oracle have in common."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from streamasr.decoding.beam import LogProbs
from streamasr.decoding.hypothesis import Hotword, UtteranceEvent
from streamasr.decoding.utterance import UtteranceOptions


class HasFrame(Protocol):
    """The state of either decoder."""

    @property
    def frame(self) -> int: ...


S = TypeVar("S", bound=HasFrame)


class AnyUtteranceDecoder(Protocol[S]):
    """Either decoder."""

    def default_options(self) -> UtteranceOptions: ...
    def initial_state(self, options: UtteranceOptions | None = None) -> S: ...
    def configure(self, state: S, hotwords: Iterable[Hotword]) -> S: ...
    def step(self, state: S, log_probs_TV: LogProbs) -> tuple[S, tuple[UtteranceEvent, ...]]: ...
    def flush(self, state: S) -> tuple[S, tuple[UtteranceEvent, ...]]: ...
