"""Test hotwords on the command line."""

from __future__ import annotations

import argparse

import pytest

from streamasr.cli.hotword import parse_hotword
from streamasr.protocol.messages import HotwordSpec


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("Ada", HotwordSpec(text="Ada")),
        ("Ada Lovelace:12", HotwordSpec(text="Ada Lovelace", boost=12.0)),
        ("Ada : -1.5", HotwordSpec(text="Ada", boost=-1.5)),
        ("ratio:high", HotwordSpec(text="ratio:high")),
        ("10:30:5", HotwordSpec(text="10:30", boost=5.0)),
    ],
)
def test_text_and_boost(argument: str, expected: HotwordSpec) -> None:
    assert parse_hotword(argument) == expected


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("", "1 to 64 characters"),
        (":5", "1 to 64"),
        ("x" * 65, "1 to 64"),
        ("x:21", "-20 to 20"),
        ("x:nan", "-20"),
    ],
)
def test_invalid_hotwords_are_refused(argument: str, message: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=message):
        parse_hotword(argument)
