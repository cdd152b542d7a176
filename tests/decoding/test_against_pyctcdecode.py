"""The streaming search gives what pyctcdecode's ``decode_beams`` gives for the whole utterance."""

from __future__ import annotations

import numpy as np
import pytest
from pyctcdecode import Alphabet, BeamSearchDecoderCTC
from pyctcdecode.language_model import LanguageModel as OracleLm

from streamasr.config import DecoderConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.hypothesis import Hotword
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
    spoken,
)

AS_RELEASED = {"charge_empty_last_word": True}
"""Settings under which every score is pyctcdecode's own, its known defect included."""
MIXED_UP = [
    "the harbour was dark and the boats had gone home",
    "she read the story to the children by the fire",
]


def oracle(config: DecoderConfig, log_probs, *, lm=True, hotwords=(), weight=10.0, tokens=TOKENS):
    model, unigrams = kenlm_model(tokens)
    language_model = (
        OracleLm(model, unigrams, config.alpha, config.beta, config.unk_score_offset) if lm else None
    )
    decoder = BeamSearchDecoderCTC(Alphabet.build_alphabet(tokens.labels), language_model)
    try:
        beams = decoder.decode_beams(
            log_probs,
            beam_width=config.beam_width,
            beam_prune_logp=config.beam_prune_log_prob,
            token_min_logp=config.token_min_log_prob,
            prune_history=config.prune_history,
            hotwords=list(hotwords),
            hotword_weight=weight,
        )
    finally:
        decoder.cleanup()
    return beams


def decode(decoder: BeamDecoder, log_probs, *, splits=(), hotwords=(), count=5):
    state = decoder.initial_state(hotwords)
    for piece in np.split(log_probs, splits):
        state = decoder.step(state, piece)
    return decoder.hypotheses(state, final=True, count=count)


def cases(count, rng, tokens=TOKENS):
    texts = [*sentences_of(tokens), *(MIXED_UP if tokens.kind != "characters" else ())]
    for number in range(count):
        log_probs = spoken(texts[number % len(texts)], rng, confusion=rng.uniform(0.1, 0.6), tokens=tokens)
        splits = np.sort(rng.integers(0, len(log_probs), size=rng.integers(0, 8)))
        yield log_probs, splits


def differences(config, examples, **options):
    """Share of texts that differ from the oracle's, and the largest difference of scores among the others."""
    tokens = options.get("tokens", TOKENS)
    decoder = beam_decoder(config, lm=options.get("lm", True), tokens=tokens)
    boosts = [Hotword(text, options.get("weight", 10.0)) for text in options.get("hotwords", ())]
    other, total, worst = 0, 0, 0.0
    for log_probs, splits in examples:
        expected = oracle(config, log_probs, **options)[0]
        got = decode(decoder, log_probs, splits=splits, hotwords=boosts)[0]
        total += 1
        if got.text != join_words(expected[0].split()):
            other += 1
        else:
            worst = max(worst, abs(got.score - expected[-1]))
    return other / total, worst


@pytest.mark.parametrize("prune_history", [False, True])
@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=lambda tokens: tokens.kind)
def test_equals_pyctcdecode_on_sentences_however_they_are_split(lm, prune_history, tokens):
    config = DecoderConfig(prune_history=prune_history, **AS_RELEASED)
    other, worst = differences(config, cases(34, np.random.default_rng(1), tokens), lm=lm, tokens=tokens)
    assert other <= 0.01
    assert worst < 1e-3


@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES, CHARACTERS], ids=lambda tokens: tokens.kind)
def test_equals_pyctcdecode_on_noise(lm, tokens):
    rng = np.random.default_rng(2)
    spreads = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
    examples = [(noise(40, rng, spread=spread, tokens=tokens), [7, 8, 30]) for spread in spreads]
    other, worst = differences(DecoderConfig(**AS_RELEASED), examples, lm=lm, tokens=tokens)
    assert other == 0
    assert worst < 1e-3


@pytest.mark.parametrize("lm", [False, True])
@pytest.mark.parametrize("tokens", [TOKENS, PIECES], ids=lambda tokens: tokens.kind)
def test_single_hotwords_are_worth_what_pyctcdecode_gives_them(lm, tokens):
    examples = cases(12, np.random.default_rng(3), tokens)
    options = {"hotwords": ("harbour", "hill", "fir", "storms"), "weight": 6.0, "tokens": tokens}
    other, worst = differences(DecoderConfig(**AS_RELEASED), examples, lm=lm, **options)
    assert other == 0
    assert worst < 1e-3


def test_alternatives_are_pyctcdecodes_too():
    config = DecoderConfig(**AS_RELEASED)
    log_probs = spoken("one of the boats was lost", np.random.default_rng(4), confusion=0.6)
    expected = [(beam[0], beam[-1]) for beam in oracle(config, log_probs)[:5]]
    got = [(reading.text, reading.score) for reading in decode(beam_decoder(config), log_probs, count=5)]
    assert [text for text, _ in got] == [text for text, _ in expected]
    assert [score for _, score in got] == pytest.approx([score for _, score in expected], abs=1e-3)
    assert len({text for text, _ in got}) == 5


def test_equals_pyctcdecode_where_separators_come_last():
    rng = np.random.default_rng(5)
    examples = []
    for text in SENTENCES[:10]:
        weights = np.exp(spoken(text, rng, confusion=0.5).astype(np.float64))
        weights[-5, TOKENS.separator] = rng.uniform(0.1, 5.0)
        examples.append((log_normalised(weights**0.7), [20]))
    other, worst = differences(DecoderConfig(**AS_RELEASED), examples)
    assert other == 0
    assert worst < 1e-3


def test_without_its_charge_for_an_empty_last_word_silence_stays_silent():
    faint = np.full((10, len(TOKENS)), 1e-6)
    faint[:, TOKENS.blank] = 1.0
    faint[5, TOKENS.encode("i")] = 0.02
    log_probs = log_normalised(faint)
    assert oracle(DecoderConfig(), log_probs)[0][0] == "i"
    assert decode(beam_decoder(DecoderConfig(**AS_RELEASED)), log_probs)[0].text == "i"
    assert decode(beam_decoder(), log_probs)[0].text == ""


def test_the_charge_aside_nothing_else_changes():
    for log_probs, splits in cases(10, np.random.default_rng(6)):
        ours, theirs = (
            decode(beam_decoder(DecoderConfig(charge_empty_last_word=charge)), log_probs, splits=splits)[0]
            for charge in (False, True)
        )
        assert ours == theirs
