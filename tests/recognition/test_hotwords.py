"""Test that hotwords are read in any spelling, and that only those without a letter are refused."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.protocol.messages import HotwordReading, HotwordSpec, Start, Warning
from streamasr.recognition.hotwords import read_hotwords
from streamasr.recognition.local import LocalSession
from streamasr.recognition.model import LoadedModel
from tests.recognition.tiny import tiny_model

LETTERS = "abcdefghijklmnopqrstuvwxyz'"


def model_with(model: LoadedModel, tokens: TokenList, language: str = "en") -> LoadedModel:
    """Return ``model`` with another token list, for reading only."""
    beams = BeamDecoder(tokens, None, model.config.decoder)
    decoder = UtteranceDecoder(beams, frame_ms=model.framing.frame_ms, endpointing=model.config.endpointing)
    return replace(model, decoder=decoder, config=replace(model.config, language=language))


@pytest.fixture
def english(model: LoadedModel) -> LoadedModel:
    """A model that writes lower-case English."""
    return model_with(model, TokenList.of_characters(LETTERS))


@functools.cache
def tiny_english() -> LoadedModel:
    return model_with(tiny_model(hops_per_chunk=1), TokenList.of_characters(LETTERS))


def readings(model: LoadedModel, *texts: str) -> list[str | None]:
    return [r.read_as for r in read_hotwords([HotwordSpec(text=text) for text in texts], model).readings]


def test_names_are_read_as_a_transcript_has_them(english: LoadedModel) -> None:
    texts = ("O’Brien", "Jean-Luc", "café", "Dr. Smith", "NASA", "B2B", "1984", "  Ada   Lovelace ")
    assert readings(english, *texts) == [
        "o'brien",
        "jean luc",
        "cafe",
        "doctor smith",
        "nasa",
        "b two b",
        "nineteen eighty four",
        "ada lovelace",
    ]


def test_names_copied_from_anywhere_are_read(english: LoadedModel) -> None:
    texts = (
        "Schei\u00addegger",
        "Ada\u200b\ufeff",
        "cafe\u0301",
        "ＮＡＳＡ",
        "ﬁnch",
        "Straße",
        "AT&T",
        "C++",
        "١٢",
    )
    assert readings(english, *texts) == [
        "scheidegger",
        "ada",
        "cafe",
        "nasa",
        "finch",
        "strasse",
        "a t and t",
        "c plus plus",
        "twelve",
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64))
def test_any_text_has_a_reading_or_a_reason(text: str) -> None:
    read = read_hotwords([HotwordSpec(text=text)], tiny_english())
    (reading,) = read.readings
    assert len(read.hotwords) + len(read.problems) == 1
    assert (reading.read_as is None) == bool(read.problems)
    if reading.read_as is not None:
        assert set(reading.read_as) <= set(LETTERS + " ")
        assert any(map(str.isalpha, reading.read_as))


def test_text_in_the_models_own_spelling_stays(english: LoadedModel) -> None:
    assert readings(english, "dr smith", "bbc", "BBC") == ["dr smith", "bbc", "b b c"]


@pytest.mark.parametrize("text", ["!!!", "…", "東京", "🙂", "'", "-"])
def test_only_what_has_no_letter_is_refused(english: LoadedModel, text: str) -> None:
    read = read_hotwords([HotwordSpec(text=text), HotwordSpec(text="ada")], english)
    assert read.readings == (HotwordReading(text=text), HotwordReading(text="ada", read_as="ada"))
    assert [hotword.text for hotword in read.hotwords] == ["ada"]
    assert read.problems == (f"{text!r} has no letter that this model can write",)


def test_a_warning_names_the_first_few(english: LoadedModel) -> None:
    read = read_hotwords([HotwordSpec(text="?" * n) for n in range(1, 8)], english)
    assert read.summary.startswith("'?' has no letter")
    assert read.summary.endswith("; and 2 more")


def test_models_of_other_spellings(model: LoadedModel) -> None:
    upper = model_with(model, TokenList.of_characters(LETTERS.upper()))
    assert readings(upper, "Jean-Luc", "B2B") == ["JEAN LUC", "B TWO B"]
    cased = model_with(model, TokenList.of_characters(LETTERS + LETTERS[:-1].upper() + "é0123456789"))
    assert readings(cased, "O’Brien", "Jean-Luc", "café", "B2B") == ["O'Brien", "Jean Luc", "café", "B2B"]
    french = model_with(model, TokenList.of_characters(LETTERS + "éèçêû"), "fr")
    assert readings(french, "Château", "Béa", "NASA") == [None, "béa", "nasa"]
    chinese = model_with(model, TokenList.of_characters("东京大学a", separator=False), "zh")
    assert readings(chinese, "东京大学", "东京，大学！", "?") == ["东京大学", "东京大学", None]


def test_boosts_stay_with_their_words(english: LoadedModel) -> None:
    specs = [HotwordSpec(text="?", boost=1.0), HotwordSpec(text="Ada", boost=2.0), HotwordSpec(text="B2B")]
    boosts = [(hotword.text, hotword.boost) for hotword in read_hotwords(specs, english).hotwords]
    assert boosts == [("ada", 2.0), ("b two b", english.config.decoder.hotword_weight)]


def test_a_local_session_begins_with_a_warning_about_unused_hotwords(model: LoadedModel) -> None:
    session = LocalSession(model, Start(hotwords=(HotwordSpec(text="?!"), HotwordSpec(text="Bad"))))
    first, *_ = session.stop()
    assert isinstance(first, Warning)
    assert first.code == "bad_hotwords"
    assert first.message == "these hotwords are not used: '?!' has no letter that this model can write"
