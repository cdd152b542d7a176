"""The written form that models, corpora and scoring share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.text import normalise_english


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
