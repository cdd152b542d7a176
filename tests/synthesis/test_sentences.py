"""Test the selection of sentences: rare words first, no word too often, always in the same order."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from streamasr.errors import ConfigError, DataError
from streamasr.synthesis.sentences import ScriptConfig, script_lines

PLAIN = ScriptConfig(numbers=0.0, min_count=1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Five hundred everyday lines and ten rare ones."""
    path = tmp_path / "text.txt"
    lines = [f"the day was {word} and long" for word in ("good", "bad", "cold", "warm", "dull") * 100]
    lines[::50] = [f"a quaint {n} zephyr stirred" for n in ("azure", "jade", "teal", "ochre", "umber") * 2]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rare_words_come_first_and_no_word_is_too_frequent(text: Path) -> None:
    rare_first = list(script_lines([text], PLAIN))
    assert sum("zephyr" in line for line in rare_first[:6]) >= 4
    assert sum("good" in line for line in rare_first) == PLAIN.repeats
    unweighted = list(script_lines([text], replace(PLAIN, rarity=0.0)))
    assert sum("zephyr" in line for line in unweighted[:6]) <= 1


def test_the_seed_determines_the_lines(text: Path) -> None:
    assert list(script_lines([text], PLAIN)) == list(script_lines([text], PLAIN))
    other = ScriptConfig(numbers=0.0, min_count=1, seed=2)
    assert list(script_lines([text], other)) != list(script_lines([text], PLAIN))


def test_numbers_are_mixed_in(text: Path) -> None:
    config = ScriptConfig(numbers=0.5, min_count=1)
    lines = list(islice(script_lines([text], config), 20))
    assert 4 <= sum("day was" not in line and "zephyr" not in line for line in lines) <= 16


def test_unsuitable_sentences_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    kept = "a sentence that is quite usual"
    odd = ("there were 12 of them", "too short", "a mispeling of that sentence", " ".join(["long"] * 30))
    with gzip.open(path, "wt") as file:
        file.write("\n".join([kept] * 5 + list(odd)) + "\n")
    assert set(script_lines([path], ScriptConfig(numbers=0.0, min_count=2))) == {kept}


def test_a_text_without_a_sentence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("word\n")
    with pytest.raises(DataError, match="no sentence is suitable for synthesis"):
        list(script_lines([path], PLAIN))


@pytest.mark.parametrize(
    "wrong", [{"numbers": 1.5}, {"shortest_words": 9, "longest_words": 8}, {"min_count": 0}, {"repeats": 0}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        ScriptConfig(**wrong)
