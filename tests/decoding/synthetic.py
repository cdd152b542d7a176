"""A small language and log-probs made from it, for every test of the decoder."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import kenlm
import numpy as np
from numpy.typing import NDArray

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.training.lm.build import LmConfig, build_lm

FRAME_MS = 20.0
TOKENS = TokenList.of_characters("'abcdefghijklmnopqrstuvwxyz")

SENTENCES = """\
the boat left the harbour before the sun came up
she put the kettle on and waited for the rain to stop
we were told that the road over the hill was closed
he read the letter twice and then he put it in the fire
there is a small house at the end of the lane
their dog ran over the field and into the wood
it was too late to call but she rang the bell all the same
i don't know what they were looking for in the dark
the children sang on the way home from the sea
nobody had seen the old man since the day of the storm
you can have two of them if you leave one for me
the train to the north was late again this morning
a cold wind blew in from the sea and shook the trees
he said that he would be there by noon
she said it would rain before the end of the day
they sat by the fire and told the story once more
the letter was on the table where she had left it
all the shops in the town were closed on sunday
i would like to hear the end of that story
the bell rang and the children ran out of the house
put the light on please it is dark in here
we walked along the shore until the light was gone
the man at the station said the train had left
one of the boats was lost in the storm
there were two letters on the table this morning
the old house on the hill has been sold
he sold the boat and bought a house by the sea
what would you like to read on the train
she would not say where she had been all day
the wind in the trees was the only sound
when the rain had stopped we went out to the field
nobody knows why the road was closed
""".splitlines()


@functools.cache
def language_model(config: DecoderConfig) -> LanguageModel:
    """A trigram of ``SENTENCES``, weighed by ``config``."""
    model, unigrams = kenlm_model()
    return LanguageModel(model, list(unigrams), config)


@functools.cache
def kenlm_model() -> tuple[kenlm.Model, tuple[str, ...]]:
    """KenLM's own trigram of ``SENTENCES``, and its words."""
    with tempfile.TemporaryDirectory() as folder:
        arpa = write_arpa(Path(folder))
        return kenlm.Model(str(arpa)), tuple(sorted({word for line in SENTENCES for word in line.split()}))


def write_arpa(folder: Path) -> Path:
    """Estimate a trigram of ``SENTENCES`` and write it as ``lm.arpa``."""
    text, arpa = folder / "text", folder / "lm.arpa"
    text.write_text("\n".join(SENTENCES) + "\n")
    build_lm([[text]], folder, LmConfig(order=3), arpa=arpa, report=lambda _: None)
    return arpa


def beam_decoder(config: DecoderConfig | None = None, *, lm: bool = True) -> BeamDecoder:
    """A decoder over ``TOKENS``."""
    config = config or DecoderConfig()
    return BeamDecoder(TOKENS, language_model(config) if lm else None, config)


def utterance_decoder(config: DecoderConfig | None = None, *, lm: bool = True) -> UtteranceDecoder:
    """An utterance decoder over ``TOKENS``, frames of 20 ms."""
    return UtteranceDecoder(beam_decoder(config, lm=lm), frame_ms=FRAME_MS, endpointing=EndpointConfig())


def spoken(
    text: str, rng: np.random.Generator, *, confusion: float = 0.3, tail_frames: int = 6
) -> NDArray[np.float32]:
    """Log-probs in which ``text`` is said: spikes and blanks as CTC gives them, some letters doubtful.

    Args:
        text: what is said.
        rng: the chance.
        confusion: share of spikes in which another letter, or blank, is nearly as probable or more.
        tail_frames: blank frames after the last letter.

    Returns:
        Natural logs, shape (frames, tokens).
    """
    columns: list[NDArray[np.float64]] = []
    last = -1
    for token in TOKENS.encode(text):
        columns.extend(_blank(rng) for _ in range(int(rng.integers(0 if token != last else 1, 4))))
        doubtful = rng.random() < confusion
        rival = int(rng.integers(0, len(TOKENS)))
        share = rng.uniform(0.2, 0.7) if doubtful else 0.01
        for _ in range(int(rng.integers(1, 3))):
            columns.append(_column(rng, {token: 1.0 - share, rival: share}))
        last = token
    columns.extend(_blank(rng) for _ in range(tail_frames))
    return log_normalised(np.array(columns))


def silence(frames: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Log-probs of ``frames`` frames in which blank is all but certain."""
    return log_normalised(np.array([_blank(rng) for _ in range(frames)]).reshape(frames, len(TOKENS)))


def noise(frames: int, rng: np.random.Generator, *, spread: float = 2.0) -> NDArray[np.float32]:
    """Log-probs of frames in which anything may be said, shape (frames, tokens)."""
    return log_normalised(np.exp(rng.normal(0.0, spread, size=(frames, len(TOKENS)))))


def log_normalised(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Natural logs of the rows of ``weights``, each made to sum to one."""
    return np.log(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _blank(rng: np.random.Generator) -> NDArray[np.float64]:
    return _column(rng, {TOKENS.blank: 1.0})


def _column(rng: np.random.Generator, peaks: dict[int, float]) -> NDArray[np.float64]:
    column = rng.exponential(2e-4, size=len(TOKENS))
    for token, weight in peaks.items():
        column[token] += weight
    return column
