"""Which sentences are read: rare words first, none too often, always in the same order."""

from __future__ import annotations

import gzip
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from streamasr.errors import ConfigError, DataError
from streamasr.synthesis.sentences import ScriptConfig, script

PLAIN = ScriptConfig(numbers=0.0, min_count=1)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """Five hundred everyday lines and ten rare ones."""
    path = tmp_path / "text.txt"
    lines = [f"the day was {word} and long" for word in ("good", "bad", "cold", "warm", "dull") * 100]
    lines[::50] = [f"a quaint {n} zephyr stirred" for n in ("azure", "jade", "teal", "ochre", "umber") * 2]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rare_words_come_first_and_none_too_often(text: Path) -> None:
    keen = list(script([text], PLAIN))
    assert sum("zephyr" in line for line in keen[:6]) >= 4
    assert sum("good" in line for line in keen) == PLAIN.repeats
    indifferent = list(script([text], replace(PLAIN, rarity=0.0)))
    assert sum("zephyr" in line for line in indifferent[:6]) <= 1


def test_the_same_seed_gives_the_same_script_and_another_another(text: Path) -> None:
    assert list(script([text], PLAIN)) == list(script([text], PLAIN))
    other = ScriptConfig(numbers=0.0, min_count=1, seed=2)
    assert list(script([text], other)) != list(script([text], PLAIN))


def test_numbers_are_mixed_in(text: Path) -> None:
    config = ScriptConfig(numbers=0.5, min_count=1)
    lines = list(islice(script([text], config), 20))
    assert 4 <= sum("day was" not in line and "zephyr" not in line for line in lines) <= 16


def test_sentences_that_nobody_can_read_or_spell_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    kept = "a sentence that is quite usual"
    odd = ("there were 12 of them", "too short", "a mispeling of that sentence", " ".join(["long"] * 30))
    with gzip.open(path, "wt") as file:
        file.write("\n".join([kept] * 5 + list(odd)) + "\n")
    assert set(script([path], ScriptConfig(numbers=0.0, min_count=2))) == {kept}


def test_a_text_without_a_sentence_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("word\n")
    with pytest.raises(DataError, match="no sentence that a voice could read"):
        list(script([path], PLAIN))


@pytest.mark.parametrize(
    "wrong", [{"numbers": 1.5}, {"shortest_words": 9, "longest_words": 8}, {"min_count": 0}, {"repeats": 0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError):
        ScriptConfig(**wrong)
