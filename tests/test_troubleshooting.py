"""Check that docs/troubleshooting*.md quote every error code, error class and message of the clients."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import streamasr
import streamasr_client
from streamasr.errors import StreamasrError
from streamasr.protocol.codes import ERROR_CODES, WARNING_CODES

ROOT = Path(__file__).parents[1]
PAGE = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("troubleshooting*.md"))
)
CODES_PAGE = (ROOT / "docs" / "protocol-codes.md").read_text(encoding="utf-8")
GAP = "…"
"""Stands for a name or a number, in the page and in what this file reads from the sources."""
END = "\0"
"""Ends a string in a text of many."""

SPANS = [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", PAGE)]
LEADING = [
    re.sub(r"\s+", " ", span)
    for entry in re.findall(r"^\* ((?:`[^`]+`(?:,\s+| or )?)+)", PAGE, re.MULTILINE)
    for span in re.findall(r"`([^`]+)`", entry)
]
QUOTED = list(dict.fromkeys([*LEADING, *(span for span in SPANS if GAP in span and " " in span)]))
"""Messages: what begins an entry of a list, and whatever else has a gap."""

RAISING = (
    "client/*.py",
    "streamasr/cli/listen.py",
    "streamasr/cli/hotword.py",
    "streamasr/cli/serve.py",
    "streamasr/cli/transcribe.py",
    "streamasr/cli/transcribe_manifest.py",
    "streamasr/bulk/*.py",
    "streamasr/engine/*.py",
    "streamasr/protocol/connection.py",
    "streamasr/recognition/*.py",
    "streamasr/service/*.py",
)
"""Where the messages come from that somebody meets who uses the daemon or its clients."""
ELSEWHERE = {"loadtest.py", "limits.py", "export.py"}
"""Messages of measuring and exporting, which name their remedy."""


def text_of(node: ast.expr) -> str:
    """The text of a string expression, with gaps for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else GAP for part in node.values)
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    return GAP


def strings_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.Constant, ast.JoinedStr)):
            yield text_of(node)


def matches(quote: str, text: str) -> bool:
    """Whether the pieces of ``quote`` between its gaps are in one of the strings of ``text``, in their order."""
    pieces = [piece.strip() for piece in quote.split(GAP) if piece.strip()]
    return re.search(f"[^{END}]*".join(map(re.escape, pieces)), text) is not None


def error_classes(base: type[StreamasrError] = StreamasrError) -> Iterator[type[StreamasrError]]:
    for cls in base.__subclasses__():
        yield cls
        yield from error_classes(cls)


def raised_messages() -> Iterator[tuple[str, str]]:
    """Place and text of every error that is raised there, but for those that only pass on another's text."""
    paths = [path for pattern in RAISING for path in ROOT.glob(pattern) if path.name not in ELSEWHERE]
    assert len(paths) > len(RAISING)
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                name = ast.unparse(node.exc.func)
                message = text_of(node.exc.args[0])
                ours = name.endswith(("Error", "Failed")) and name not in ("ValueError", "AttributeError")
                if ours and re.search(r"\w\w", message):
                    yield f"{path.name}:{node.lineno}", re.sub(r"\s+", " ", message)


@pytest.fixture(scope="module")
def sources() -> str:
    """Every string of the packages, and every file of the captions page, with single spaces."""
    python = (path for folder in ("streamasr", "client") for path in (ROOT / folder).rglob("*.py"))
    found = [text for path in python for text in strings_of(path)]
    found += [path.read_text(encoding="utf-8") for path in (ROOT / "client" / "web").glob("*.[jh]*")]
    return re.sub(r"\s+", " ", END.join(found))


def test_every_code_of_the_protocol_is_covered() -> None:
    section = PAGE.partition("\n## Errors of a session\n")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", section + PAGE.partition("\n## Captions are late\n")[2]))
    assert (ERROR_CODES.keys() | WARNING_CODES.keys()) - named == set()


def test_every_close_code_is_covered() -> None:
    closes = {str(code.close) for code in ERROR_CODES.values()} | {"1000"}
    table = CODES_PAGE.partition("\n## Close codes\n")[2].partition("\n## ")[0]
    assert closes - set(re.findall(r"^\| (\d+) \|", table, re.MULTILINE)) == set()


def test_every_error_class_is_covered() -> None:
    for package in (streamasr, streamasr_client):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            if module.name.endswith(".errors"):
                importlib.import_module(module.name)
    importlib.import_module("streamasr.media.decoders")
    ours = {
        cls.__name__: cls.code
        for cls in error_classes()
        if cls.__module__.startswith(("streamasr.", "streamasr_client."))
    }
    assert len(ours) >= 12
    section = PAGE.partition("\n## Python exceptions\n")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.MULTILINE))
    assert rows.keys() == ours.keys()
    assert {name for name, code in ours.items() if f"`{code}`" not in rows[name]} <= {"DaemonError"}


def test_every_message_is_covered() -> None:
    raised = list(raised_messages())
    assert len(raised) >= 50
    assert [
        (place, message) for place, message in raised if not any(matches(quote, message) for quote in QUOTED)
    ] == []


LOGGING = ("log_event", "self._log.event", "logger.exception")
"""What logs an event, whose name is the first argument."""


def events() -> Iterator[str]:
    """The events that the daemon logs."""
    for path in sorted((ROOT / "streamasr" / "service").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in LOGGING:
                for part in ast.walk(node.args[0]):
                    if isinstance(part, ast.Constant) and re.fullmatch(r"[a-z_]+", str(part.value)):
                        yield str(part.value)


def test_every_event_of_the_log_is_explained() -> None:
    page = (ROOT / "docs" / "troubleshooting-service.md").read_text(encoding="utf-8")
    section = page.partition("\n## What the log says\n")[2].partition("\n## ")[0]
    rows = "".join(re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE))
    faults = section.partition("\n### Faults\n")[2].partition("such as")[0]
    assert set(re.findall(r"`([a-z_]+)`", rows + faults)) == set(events())


def test_messages_are_quoted_as_they_are(sources: str) -> None:
    assert len(QUOTED) >= 50
    assert [quote for quote in QUOTED if not matches(quote, sources)] == []
