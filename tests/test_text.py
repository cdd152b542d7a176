"""Test the normalisation of text for models, corpora and scoring."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.text import (
    SPACELESS,
    join_words,
    normalise_chinese,
    normalise_english,
    normalise_letters,
    split_words,
    symbols_to_spell_out,
    text_rules,
)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("HELLO, World!", "hello world"),
        ("It’s the boys' — 'tis", "it's the boys' 'tis"),
        ("a ' lone quote '' here", "a lone quote here"),
        ("Café naïve", "cafe naive"),
        ("room 101b", "room b"),
        ("well-known\tfact\n", "well known fact"),
        ("", ""),
    ],
)
def test_normalise(raw: str, expected: str) -> None:
    assert normalise_english(raw) == expected


@given(st.text(max_size=80))
def test_normalising_twice_changes_nothing_and_leaves_only_the_alphabet(raw: str) -> None:
    once = normalise_english(raw)
    assert normalise_english(once) == once
    assert set(once) <= set("abcdefghijklmnopqrstuvwxyz' ")
    assert once == once.strip()
    assert "  " not in once


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("今天 天气，很好！", "今天天气很好"),
        ("Ｋ歌 OK", "k歌ok"),
        ("〇五年 3 月", "〇五年月"),
        ("café 咖啡", "caf咖啡"),
        ("\ufa12", "晴"),
        ("", ""),
    ],
)
def test_chinese_is_characters_without_spaces(raw: str, expected: str) -> None:
    assert normalise_chinese(raw) == expected
    assert normalise_chinese(expected) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("L’Été — déjà 'vu'", "l'été déjà vu"),
        ("Straße, 3 Bäume", "straße bäume"),
        ("Привет,   мир!", "привет мир"),
        ("İstanbul'da", "i̇stanbul'da"),
        ("हिन्दी में", "हिन्दी में"),
    ],
)
def test_other_languages_keep_their_letters_and_accents(raw: str, expected: str) -> None:
    assert normalise_letters(raw) == expected


@given(st.text(max_size=60), st.sampled_from(["en", "zh", "fr"]))
def test_normal_text_stays_as_it_is(raw: str, language: str) -> None:
    once = text_rules(language).normalise(raw)
    assert text_rules(language).normalise(once) == once


def test_every_language_has_rules() -> None:
    assert [text_rules(tag).unit for tag in ("en", "en-GB", "zh", "zh_CN", "cmn-Hans", "fr")] == [
        *["word"] * 2, *["character"] * 3, "word",
    ]  # fmt: skip
    assert text_rules("zh").sentence("今天，好 ok") == "今 天 好 o k"
    assert text_rules("en").sentence("It's  LATE.") == "it's late"


def test_symbols_to_spell_out() -> None:
    assert symbols_to_spell_out("room 1０1, 5% of €3 & ½") == set("15%€3&2") | {"0"}
    assert symbols_to_spell_out('it\'s well-known — "really"? 三月，〇') == set()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["he", "was"], "he was"),
        (["今", "天", "好"], "今天好"),
        (["看", "tv", "吗"], "看 tv 吗"),
        (["안녕", "하세요"], "안녕 하세요"),
        ([], ""),
    ],
)
def test_words_are_spaced_as_they_are_written_and_found_again(words: list[str], text: str) -> None:
    assert join_words(words) == text
    assert split_words(text) == words


def test_an_empty_word_takes_no_space() -> None:
    assert join_words(["", "tail"]) == "tail"
    assert join_words(["今", ""]) == "今"


def test_the_page_spaces_the_same_scripts(repository: Path) -> None:
    script = (repository / "client" / "web" / "words.js").read_text(encoding="utf-8")
    ranges = [
        f"{ord(one):x}-{ord(last):x}" for one, last in zip(SPACELESS[::3], SPACELESS[2::3], strict=True)
    ]
    written = script.replace("\\\\u", "").replace("{", "").replace("}", "")
    assert [pair for pair in ranges if pair not in written] == []
