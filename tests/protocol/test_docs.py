"""The protocol's reference says what the code does: messages, fields, limits, codes and states."""

import dataclasses
import re
from pathlib import Path

import pytest

from streamasr.frontend.pcm import ENCODINGS
from streamasr.protocol import messages
from streamasr.protocol.codes import ERROR_CODES, WARNING_CODES
from streamasr.protocol.limits import DEFAULT_LIMITS, Range
from streamasr.protocol.messages import Start
from streamasr.protocol.serialisation import CLIENT_MESSAGES, SERVER_MESSAGES, encode, parse_client_message
from streamasr.protocol.serialisation import parse_server_message as parse_server
from streamasr.protocol.states import diagram

PAGES = ("protocol.md", "protocol-server.md", "protocol-codes.md")
DOC = "\n".join((Path(__file__).parents[2] / "docs" / name).read_text() for name in PAGES)
NESTED = (
    messages.HotwordSpec,
    messages.EndpointingSpec,
    messages.StabilitySpec,
    messages.WordTiming,
    messages.Alternative,
)


def section(heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    found = re.search(rf"^(#+) {re.escape(heading)}$(.*?)(?=^#+ |\Z)", DOC, re.M | re.S)
    assert found, f"no heading {heading!r} in {', '.join(PAGES)}"
    return found.group(2)


def rows(text: str) -> dict[str, str]:
    """First cell (its backticks taken off) to the whole row, of every table row."""
    return {m.group(1): m.group(0) for m in re.finditer(r"^\| `([^`]+)` \|.*$", text, re.M)}


@pytest.mark.parametrize("name", [*CLIENT_MESSAGES, *SERVER_MESSAGES])
def test_every_message_and_field_is_documented(name: str) -> None:
    cls = (CLIENT_MESSAGES | SERVER_MESSAGES)[name]
    assert set(rows(section(f"`{name}`"))) == {f.name for f in dataclasses.fields(cls)}


@pytest.mark.parametrize("cls", NESTED, ids=lambda cls: cls.__name__)
def test_every_nested_field_is_documented(cls: type) -> None:
    heading = {
        "HotwordSpec": "A hotword",
        "EndpointingSpec": "Endpointing",
        "StabilitySpec": "Stability",
        "WordTiming": "A word",
        "Alternative": "An alternative",
    }[cls.__name__]
    assert set(rows(section(heading))) == {f.name for f in dataclasses.fields(cls)}


def test_every_default_of_start_is_documented() -> None:
    described = rows(section("`start`"))
    for f in dataclasses.fields(Start):
        value = getattr(Start(), f.name)
        if isinstance(value, (int, str)):
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            assert f"`{shown}`" in described[f.name], f.name
    assert all(f"`{name}`" in described["encoding"] for name in ENCODINGS)


def test_every_limit_is_documented() -> None:
    described = rows(section("Limits"))
    assert set(described) == {f.name for f in dataclasses.fields(DEFAULT_LIMITS)}
    for name, row in described.items():
        value = getattr(DEFAULT_LIMITS, name)
        shown = f"{value.low:g} to {value.high:g}" if isinstance(value, Range) else str(value)
        assert f"| {shown} |" in row, row


def test_every_error_code_is_documented() -> None:
    described = rows(section("Errors"))
    assert set(described) == set(ERROR_CODES)
    for name, code in ERROR_CODES.items():
        assert f"| {code.fault} | {code.close} | {code.meaning} |" in described[name]


def test_every_warning_code_is_documented() -> None:
    described = rows(section("Warnings"))
    assert set(described) == set(WARNING_CODES)
    assert all(meaning in described[name] for name, meaning in WARNING_CODES.items())


def test_the_diagram_is_generated_from_the_table() -> None:
    assert f"```mermaid\n{diagram()}\n```" in section("States")


def test_every_example_is_a_valid_message() -> None:
    examples = re.findall(r"^([→←]) (\{.*\})$", DOC, re.M)
    assert len(examples) >= 8
    for arrow, text in examples:
        message = parse_client_message(text) if arrow == "→" else parse_server(text)
        assert encode(message)
