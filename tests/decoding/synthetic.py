"""Make a small language and log-probs of it, for the tests of the decoder."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import kenlm
import numpy as np
from numpy.typing import NDArray

from streamasr.config import DecoderConfig, EndpointConfig, RescoringConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.neural_lm import Context, NeuralLanguageModel, TextState
from streamasr.decoding.rescoring import Rescorer
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.lm.build import LmConfig, build_lm

FRAME_MS = 20.0
LETTERS = "'abcdefghijklmnopqrstuvwxyz"
TOKENS = TokenList.of_characters(LETTERS)
PIECES = TokenList(
    (
        "<blank>",
        *LETTERS,
        *(f"▁{letter}" for letter in LETTERS),
        *("▁the", "▁th", "▁of", "▁in", "▁was", "▁be", "▁ho", "▁st", "▁on", "▁one", "▁she", "▁ra", "▁do"),
        *("ed", "er", "re", "in", "on", "st", "ell", "ouse", "ight", "orn", "ing", "or", "at", "nd", "he"),
    )
)
"""Word pieces; most words have several spellings."""

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

CHINESE = """\
今天天气很好
今天下午有雨
我们今天去北京
他们明天去上海
上海明天天气很好
北京下午没有雨
我明天下午去看你
你们今天好吗
""".splitlines()
CHARACTERS = TokenList.of_characters(sorted(set("".join(CHINESE))), separator=False)
"""Mandarin: every character is a word."""


def sentences_of(tokens: TokenList) -> list[str]:
    """The sentences of the language of ``tokens``."""
    return CHINESE if tokens.kind == "characters" else SENTENCES


@functools.cache
def language_model(config: DecoderConfig, tokens: TokenList = TOKENS) -> LanguageModel:
    """A trigram of the language of ``tokens``, weighted by ``config``."""
    model, unigrams = kenlm_model(tokens)
    return LanguageModel(model, list(unigrams), config)


@functools.cache
def kenlm_model(tokens: TokenList = TOKENS) -> tuple[kenlm.Model, tuple[str, ...]]:
    """A KenLM trigram of the language of ``tokens``, and its words."""
    sentences = sentences_of(tokens)
    with tempfile.TemporaryDirectory() as folder:
        arpa = write_arpa(Path(folder), sentences, "zh" if sentences is CHINESE else "en")
        words = {word for line in sentences for word in (line if sentences is CHINESE else line.split())}
        return kenlm.Model(str(arpa)), tuple(sorted(words))


def write_arpa(folder: Path, sentences: list[str] = SENTENCES, language: str = "en") -> Path:
    """Estimate a trigram of ``sentences`` and write it as ``lm.arpa``."""
    text, arpa = folder / "text", folder / "lm.arpa"
    text.write_text("\n".join(sentences) + "\n", encoding="utf-8")
    config = LmConfig(order=3, language=language)
    build_lm([[text]], folder, config, arpa=arpa, report=lambda _: None)
    return arpa


def beam_decoder(
    config: DecoderConfig | None = None, *, lm: bool = True, tokens: TokenList = TOKENS
) -> BeamDecoder:
    """A decoder over ``tokens``."""
    config = config or DecoderConfig()
    return BeamDecoder(tokens, language_model(config, tokens) if lm else None, config)


def utterance_decoder(
    config: DecoderConfig | None = None, *, lm: bool = True, tokens: TokenList = TOKENS
) -> UtteranceDecoder:
    """An utterance decoder over ``tokens``, frames of 20 ms."""
    beams = beam_decoder(config, lm=lm, tokens=tokens)
    return UtteranceDecoder(beams, frame_ms=FRAME_MS, endpointing=EndpointConfig())


NOWHERE = TextState((0, 0), ())


class Taste:
    """Stands for a model that dislikes some words. Its state counts the words and sentences before."""

    def __init__(self, *disliked: str) -> None:
        self.disliked = disliked
        self.asked: list[tuple[TextState, list[list[str]]]] = []
        self.contexts_together: list[int] = []

    def initial_state(self) -> TextState:
        return NOWHERE

    def advance(self, state: TextState, words: Sequence[str], *, end_of_sentence: bool = False) -> TextState:
        return TextState((state.rows[0] + len(words), state.rows[1] + end_of_sentence), ())

    def advance_context(self, context: Context, words: Sequence[str]) -> Context:
        return replace(context, state=self.advance(context.state, words))

    def read(
        self, work: Sequence[tuple[Context, Sequence[Sequence[str]]]]
    ) -> list[tuple[NDArray[np.float64], Context]]:
        self.contexts_together.append(len(work))
        return [(self.log_probs(context.state, texts), context) for context, texts in work]

    def log_probs(
        self, state: TextState, texts: Sequence[Sequence[str]], *, end_of_sentence: bool = False
    ) -> NDArray[np.float64]:
        if texts:
            self.asked.append((state, [list(text) for text in texts]))
        return np.array([-100.0 * sum(word in self.disliked for word in text) for text in texts])


def rescorer(*disliked: str, weight: float = 0.5, candidates: int = 50) -> Rescorer:
    """A rescorer that dislikes some words."""
    return Rescorer(
        cast("NeuralLanguageModel", Taste(*disliked)), RescoringConfig(weight=weight, candidates=candidates)
    )


def speech(
    text: str,
    rng: np.random.Generator,
    *,
    confusion: float = 0.3,
    tail_frames: int = 6,
    tokens: TokenList = TOKENS,
) -> NDArray[np.float32]:
    """Log-probs of ``text``: spikes and blanks like those of a CTC model, some letters ambiguous.

    Args:
        text: the words.
        rng: the random generator.
        confusion: share of spikes in which another token is about as probable.
        tail_frames: blank frames after the last letter.
        tokens: the token list.

    Returns:
        Natural logs, shape (frames, tokens).
    """
    columns: list[NDArray[np.float64]] = []
    last = -1
    for token in tokens.encode(text):
        columns.extend(_blank(rng, tokens) for _ in range(int(rng.integers(0 if token != last else 1, 4))))
        ambiguous = rng.random() < confusion
        other = int(rng.integers(0, len(tokens)))
        share = rng.uniform(0.2, 0.7) if ambiguous else 0.01
        for _ in range(int(rng.integers(1, 3))):
            columns.append(_column(rng, {token: 1.0 - share, other: share}, tokens))
        last = token
    columns.extend(_blank(rng, tokens) for _ in range(tail_frames))
    return log_normalised(np.array(columns))


def silence(frames: int, rng: np.random.Generator, *, tokens: TokenList = TOKENS) -> NDArray[np.float32]:
    """Log-probs of ``frames`` frames in which blank is nearly certain, shape (frames, tokens)."""
    columns = [_blank(rng, tokens) for _ in range(frames)]
    return log_normalised(np.array(columns).reshape(frames, len(tokens)))


def noise(
    frames: int, rng: np.random.Generator, *, spread: float = 2.0, tokens: TokenList = TOKENS
) -> NDArray[np.float32]:
    """Log-probs of frames in which all tokens are random, shape (frames, tokens)."""
    return log_normalised(np.exp(rng.normal(0.0, spread, size=(frames, len(tokens)))))


def log_normalised(weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Normalise each row of ``weights`` to a sum of one and take natural logs."""
    log_probs: NDArray[np.float32] = np.log(weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return log_probs


def _blank(rng: np.random.Generator, tokens: TokenList) -> NDArray[np.float64]:
    return _column(rng, {tokens.blank: 1.0}, tokens)


def _column(rng: np.random.Generator, peaks: dict[int, float], tokens: TokenList) -> NDArray[np.float64]:
    column = rng.exponential(2e-4, size=len(tokens))
    for token, weight in peaks.items():
        column[token] += weight
    return column
