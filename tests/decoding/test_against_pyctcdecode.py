"""Compare the streaming search with pyctcdecode's ``decode_beams`` over whole utterances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from pyctcdecode.alphabet import Alphabet
from pyctcdecode.decoder import BeamSearchDecoderCTC
from pyctcdecode.language_model import LanguageModel as PyctcdecodeLm

from streamasr.config import DecoderConfig
from streamasr.decoding.beam import BeamDecoder, LogProbs
from streamasr.decoding.hypothesis import Hotword, Hypothesis
from streamasr.decoding.tokens import TokenList
from streamasr.text import join_words
from tests.decoding.synthetic import (
    CHARACTERS,
    PIECES,
    SENTENCES,
    TOKENS,
    beam_decoder,
    kenlm_model,
    log_normalised,
    noise,
    sentences_of,
    speech,
)

LIKE_PYCTCDECODE = DecoderConfig(charge_empty_last_word=True)
"""Settings with which every score equals pyctcdecode's, its known defect included."""
OTHER_SENTENCES = [
    "the harbour was dark and the boats had gone home",
    "she read the story to the children by the fire",
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What both decoders are given besides the configuration."""

    lm: bool = True
    hotwords: tuple[str, ...] = ()
    weight: float = 10.0
    """The boost of the hotwords."""
    tokens: TokenList = TOKENS


def pyctcdecode_beams(
    config: DecoderConfig, log_probs: LogProbs, options: Options = Options()
) -> list[tuple[Any, ...]]:
    """pyctcdecode's beams, best first: text first, total score last."""
    model, unigrams = kenlm_model(options.tokens)
    language_model = (
        PyctcdecodeLm(model, unigrams, config.alpha, config.beta, config.unk_score_offset)
        if options.lm
        else None
    )
    decoder = BeamSearchDecoderCTC(Alphabet.build_alphabet(options.tokens.labels), language_model)
    try:
        beams: list[tuple[Any, ...]] = decoder.decode_beams(
            log_probs,
            beam_width=config.beam_width,
            beam_prune_logp=config.beam_prune_log_prob,
            token_min_logp=config.token_min_log_prob,
            prune_history=config.prune_history,
            hotwords=list(options.hotwords),
            hotword_weight=options.weight,
        )
    finally:
        decoder.cleanup()
    return beams


def decode(
    decoder: BeamDecoder,
    log_probs: LogProbs,
    *,
    splits: Sequence[int] = (),
    hotwords: Sequence[Hotword] = (),
    count: int = 5,
) -> tuple[Hypothesis, ...]:
    state = decoder.initial_state(hotwords)
    for piece in np.split(log_probs, splits):
        state = decoder.step(state, piece)
    return decoder.hypotheses(state, final=True, count=count)


def cases(
    count: int, rng: np.random.Generator, tokens: TokenList = TOKENS
) -> Iterator[tuple[LogProbs, list[int]]]:
    """Log-probs of sentences, and places at which to split them."""
    texts = [*sentences_of(tokens), *(OTHER_SENTENCES if tokens.kind != "characters" else ())]
    for number in range(count):
        log_probs = speech(texts[number % len(texts)], rng, confusion=rng.uniform(0.1, 0.6), tokens=tokens)
        splits = rng.integers(0, len(log_probs), size=rng.integers(0, 8))
        yield log_probs, sorted(splits.tolist())


def differences(
    config: DecoderConfig,
    examples: Iterable[tuple[LogProbs, list[int]]],
    options: Options = Options(),
) -> tuple[float, float]:
    """Return the share of texts that differ from pyctcdecode's, and the largest difference of scores for the rest."""
    decoder = beam_decoder(config, lm=options.lm, tokens=options.tokens)
    hotwords = [Hotword(text, options.weight) for text in options.hotwords]
    different, total, worst = 0, 0, 0.0
    for log_probs, splits in examples:
        expected = pyctcdecode_beams(config, log_probs, options)[0]
        got = decode(decoder, log_probs, splits=splits, hotwords=hotwords)[0]
        total += 1
        if got.text != join_words(expected[0].split()):
            different += 1
        else:
            worst = max(worst, abs(got.score - expected[-1]))
    return different / total, worst


@pytest.mark.parametrize("prune_history", [False, True])
@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=lambda tokens: tokens.kind)
def test_equals_pyctcdecode_on_sentences_however_they_are_split(
    lm: bool, prune_history: bool, tokens: TokenList
) -> None:
    config = replace(LIKE_PYCTCDECODE, prune_history=prune_history)
    examples = cases(34, np.random.default_rng(1), tokens)
    different, worst = differences(config, examples, Options(lm=lm, tokens=tokens))
    assert different <= 0.01
    assert worst < 1e-3


@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=lambda tokens: tokens.kind)
def test_equals_pyctcdecode_on_noise(lm: bool, tokens: TokenList) -> None:
    rng = np.random.default_rng(2)
    spreads = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
    examples = [(noise(40, rng, spread=spread, tokens=tokens), [7, 8, 30]) for spread in spreads]
    different, worst = differences(LIKE_PYCTCDECODE, examples, Options(lm=lm, tokens=tokens))
    assert different == 0
    assert worst < 1e-3


@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES], ids=lambda tokens: tokens.kind)
def test_single_hotwords_score_as_in_pyctcdecode(lm: bool, tokens: TokenList) -> None:
    examples = cases(12, np.random.default_rng(3), tokens)
    options = Options(lm=lm, hotwords=("harbour", "hill", "fir", "storms"), weight=6.0, tokens=tokens)
    different, worst = differences(LIKE_PYCTCDECODE, examples, options)
    assert different == 0
    assert worst < 1e-3


def test_alternatives_equal_pyctcdecodes() -> None:
    config = LIKE_PYCTCDECODE
    log_probs = speech("one of the boats was lost", np.random.default_rng(4), confusion=0.6)
    expected = [(beam[0], beam[-1]) for beam in pyctcdecode_beams(config, log_probs)[:5]]
    got = [(found.text, found.score) for found in decode(beam_decoder(config), log_probs, count=5)]
    assert [text for text, _ in got] == [text for text, _ in expected]
    assert [score for _, score in got] == pytest.approx([score for _, score in expected], abs=1e-3)
    assert len({text for text, _ in got}) == 5


def test_equals_pyctcdecode_if_separators_come_last() -> None:
    rng = np.random.default_rng(5)
    examples = []
    for text in SENTENCES[:10]:
        weights = np.exp(speech(text, rng, confusion=0.5).astype(np.float64))
        weights[-5, TOKENS.separator] = rng.uniform(0.1, 5.0)
        examples.append((log_normalised(weights**0.7), [20]))
    different, worst = differences(LIKE_PYCTCDECODE, examples)
    assert different == 0
    assert worst < 1e-3


def test_silence_has_no_words_without_the_score_of_an_empty_last_word() -> None:
    faint = np.full((10, len(TOKENS)), 1e-6)
    faint[:, TOKENS.blank] = 1.0
    faint[5, TOKENS.encode("i")] = 0.02
    log_probs = log_normalised(faint)
    assert pyctcdecode_beams(DecoderConfig(), log_probs)[0][0] == "i"
    assert decode(beam_decoder(LIKE_PYCTCDECODE), log_probs)[0].text == "i"
    assert decode(beam_decoder(), log_probs)[0].text == ""


def test_the_score_of_an_empty_last_word_changes_nothing_else() -> None:
    for log_probs, splits in cases(10, np.random.default_rng(6)):
        ours, theirs = (
            decode(beam_decoder(DecoderConfig(charge_empty_last_word=charge)), log_probs, splits=splits)[0]
            for charge in (False, True)
        )
        assert ours == theirs
