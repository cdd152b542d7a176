"""Test the scores of the language model, its caches and its files."""

from __future__ import annotations

import math
from pathlib import Path

import kenlm
import numpy as np
import pytest
from pyctcdecode.language_model import LanguageModel as Oracle

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding import _native
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ModelError
from tests.decoding.synthetic import (
    FRAME_MS,
    SENTENCES,
    TOKENS,
    beam_decoder,
    kenlm_model,
    language_model,
    speech,
    write_arpa,
)


def test_a_sentence_scores_as_in_pyctcdecode() -> None:
    model, unigrams = kenlm_model()
    oracle, ours = Oracle(model, unigrams), language_model(DecoderConfig())
    for sentence in [*SENTENCES[:5], "the zebra left"]:
        *words, last = sentence.split()
        state, expected_state = ours.start_state, oracle.get_start_state()
        for word in words:
            score, state = ours.score(state, word)
            expected, expected_state = oracle.score(expected_state, word)
            assert score == expected
        score, state = ours.score(state, last)
        expected, _ = oracle.score(expected_state, last, is_last_word=True)
        assert score + ours.score_end(state) == pytest.approx(expected)


def test_the_penalty_of_a_partial_word_outside_the_lexicon_grows_with_its_length() -> None:
    lm = language_model(DecoderConfig(unk_score_offset=-4.0))
    assert lm.score_partial("harb") == 0.0
    assert lm.score_partial("xq") == -4.0
    assert lm.score_partial("x" * 12) == -8.0


def test_the_configuration_sets_the_weights() -> None:
    model, _ = kenlm_model()
    lm = language_model(DecoderConfig(alpha=0.25, beta=0.75))
    raw = model.score("the", bos=True, eos=False)
    assert lm.score(lm.start_state, "the")[0] == pytest.approx(0.25 * raw * math.log(10.0) + 0.75, abs=1e-5)


def test_caches_stay_within_their_limit() -> None:
    model, unigrams = kenlm_model()
    lm = LanguageModel(model, unigrams, DecoderConfig(lm_cache_entries=100))
    for number, word in enumerate(unigrams):
        lm.score(lm.start_state, word)
        lm.score(lm.start_state, f"unknown{number}")
    assert len(unigrams) > 100
    assert lm.cached_entries == 200


def test_scores_are_the_same_from_the_cache_and_after_eviction() -> None:
    model, unigrams = kenlm_model()
    small, large = (LanguageModel(model, unigrams, DecoderConfig(lm_cache_entries=n)) for n in (1, 1000))
    for sentence in [*SENTENCES[:5], *SENTENCES[:5]]:
        scores = []
        for lm in (small, large):
            state, sentence_scores = lm.start_state, []
            for word in [*sentence.split(), "zebra"]:
                score, state = lm.score(state, word)
                sentence_scores.append(score)
            scores.append([*sentence_scores, lm.score_end(state)])
        assert scores[0] == scores[1]


def test_words_of_the_model_outside_the_lexicon_are_penalised() -> None:
    model, unigrams = kenlm_model()
    lm = LanguageModel(model, [word for word in unigrams if word != "boat"], DecoderConfig())
    complete = language_model(DecoderConfig())
    expected, _ = complete.score(complete.start_state, "boat")
    penalty = DecoderConfig().alpha * DecoderConfig().unk_score_offset * math.log(10.0)
    assert lm.score(lm.start_state, "boat")[0] == pytest.approx(expected + penalty)


def test_two_hundred_thousand_words_take_less_than_ten_megabytes() -> None:
    model, _ = kenlm_model()
    rng = np.random.default_rng(0)
    syllables = [
        f"{first}{vowel}{last}" for first in "bdfghklmnprstvw" for vowel in "aeiou" for last in ("", "n", "r")
    ]
    words: set[str] = set()
    while len(words) < 200_000:
        words.update("".join(rng.choice(syllables, size=size)) for size in rng.integers(2, 6, size=1000))
    native = _native.LanguageModel(
        base_score=model.BaseScore,
        new_state=kenlm.State,
        contains=model.__contains__,
        start=kenlm.State(),
        order=3,
        words=list(words),
        cache_entries=10,
    )
    assert native.lexicon_bytes <= 10e6


def test_files_load_to_the_same_model(tmp_path: Path) -> None:
    write_arpa(tmp_path)
    _, unigrams = kenlm_model()
    words = tmp_path / "unigrams.txt"
    words.write_text("\n".join(unigrams) + "\n")
    lm = LanguageModel.load(tmp_path / "lm.arpa", words, DecoderConfig())
    same = language_model(DecoderConfig())
    assert lm.order == 3
    assert lm.score(lm.start_state, "the")[0] == same.score(same.start_state, "the")[0]


def test_a_file_that_is_overwritten_changes_no_model_in_use(tmp_path: Path) -> None:
    """As when a new model is copied over the folder of a running daemon."""
    write_arpa(tmp_path)
    words = tmp_path / "unigrams.txt"
    words.write_text("\n".join(kenlm_model()[1]) + "\n")
    binary = tmp_path / "lm.bin"
    lm, same = (LanguageModel.load(binary, words, DecoderConfig()) for _ in range(2))
    scores = [lm.score(lm.start_state, word)[0] for word in words.read_text().split()]
    with binary.open("r+b") as file:
        file.write(bytes(binary.stat().st_size))
    assert [same.score(same.start_state, word)[0] for word in words.read_text().split()] == scores


def test_the_message_names_the_unusable_file(tmp_path: Path) -> None:
    model, words = tmp_path / "lm.bin", tmp_path / "unigrams.txt"
    with pytest.raises(ModelError, match=r"lm\.bin: no such file"):
        LanguageModel.load(model, words, DecoderConfig())
    model.write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"unigrams\.txt: no such file"):
        LanguageModel.load(model, words, DecoderConfig())
    words.write_text("\n")
    with pytest.raises(ModelError, match=r"unigrams\.txt: empty"):
        LanguageModel.load(model, words, DecoderConfig())
    words.write_bytes(b"\xff\n")
    with pytest.raises(ModelError, match=r"unigrams\.txt: not UTF-8"):
        LanguageModel.load(model, words, DecoderConfig())
    words.write_text("the\n")
    with pytest.raises(ModelError, match=r"lm\.bin: not a KenLM model"):
        LanguageModel.load(model, words, DecoderConfig())


@pytest.mark.parametrize("threads", [1, 2])
def test_errors_in_kenlm_are_raised_by_the_search(threads: int) -> None:
    lm = LanguageModel(*kenlm_model(), DecoderConfig())

    def fail(*_: object) -> float:
        raise MemoryError("no room for a state")

    lm.native = _native.LanguageModel(
        base_score=fail,
        new_state=kenlm.State,
        contains=lambda word: True,
        start=kenlm.State(),
        order=3,
        words=["the", "sea"],
        cache_entries=10,
    )
    decoder = UtteranceDecoder(
        BeamDecoder(TOKENS, lm, DecoderConfig()), frame_ms=FRAME_MS, endpointing=EndpointConfig()
    )
    log_probs = speech("the sea", np.random.default_rng(0))
    with pytest.raises(MemoryError, match="no room"):
        decoder.step_all([(decoder.initial_state(), log_probs)] * 4, threads=threads)


@pytest.mark.parametrize(
    "text", ["the boat left the harbour before the sun came up", "they sat by the", "zzyx"]
)
def test_the_sentence_ends_with_the_language_models_probability(text: str) -> None:
    model, _ = kenlm_model()
    beams = beam_decoder()
    state = beams.step(beams.initial_state(), speech(text, np.random.default_rng(0), confusion=0.0))
    (hypothesis,) = beams.hypotheses(state, final=False, count=1)
    assert hypothesis.text == text
    *_, (log10_prob, _, _) = model.full_scores(text, bos=True, eos=True)
    assert beams.sentence_end_log_prob(state) == pytest.approx(log10_prob * math.log(10), rel=1e-5)


def test_without_a_language_model_the_end_of_a_sentence_is_not_scored() -> None:
    beams = beam_decoder(lm=False)
    state = beams.step(beams.initial_state(), speech("the sea", np.random.default_rng(0)))
    assert beams.sentence_end_log_prob(state) == 0.0
