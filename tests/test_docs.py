"""Check that the documents match the program: commands, flags, links; and that they name no machine."""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamasr import __version__
from streamasr.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
PROJECT_PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
PAGES = [*DOCUMENTS, *PROJECT_PAGES]
MODEL_CARDS = sorted((ROOT / "models").glob("*/README.md"))
RESULTS = sorted((ROOT / "benchmarks").rglob("*.md"))
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)

MAX_COLUMNS = 100
"""Of a line outside blocks of code."""
DOCUMENT_LINES = 250
README_LINES = 150
MAX_PICTURE_BYTES = 200_000

PLACES = re.compile(
    r"pypi\.org|pythonhosted|npmjs|deb\.debian|index-url|/work/|/root/|/home/\w|C:\\\\Users", re.IGNORECASE
)
"""Hosts of package registries, and places on one machine."""


def parser_of(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"streamasr {command}")
    importlib.import_module(f"streamasr.cli.{command.replace('-', '_')}").add_arguments(parser)
    return parser


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its subcommands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from parsers(sub)


def documented(flag: str) -> bool:
    """A flag of its own name, or a setting whose flag, variable and key docs/operations.md explains at once."""
    setting = flag.removeprefix("--").replace("-", "_")
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", TEXT) is not None or f"| `{setting}` |" in TEXT


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_and_flag_is_documented(command: str) -> None:
    assert f"streamasr {command}" in TEXT
    flags = {
        flag
        for parser in parsers(parser_of(command))
        for action in parser._actions
        for flag in action.option_strings
        if flag.startswith("--") and flag != "--help"
    }
    assert {flag for flag in flags if not documented(flag)} == set()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_subcommand_is_documented(command: str) -> None:
    for parser in parsers(parser_of(command)):
        assert parser.prog in TEXT


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([command, "--help"])
    assert leaving.value.code == 0
    _, found, example = capsys.readouterr().out.partition("example:\n")
    assert found
    assert f"  streamasr {command}" in example


def test_every_command_has_a_line_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    overview = " ".join(capsys.readouterr().out.split())
    for command, summary in COMMANDS.items():
        assert f" {command} {summary}" in overview


@pytest.mark.parametrize(
    "path", [*PAGES, *MODEL_CARDS, *RESULTS], ids=lambda path: str(path.relative_to(ROOT))
)
def test_relative_links_resolve(path: Path) -> None:
    prose = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    relative = [link for link in links if not re.match(r"\w+:", link)]
    assert [link for link in relative if not (path.parent / link).exists()] == []


def headings(path: Path) -> set[str]:
    """The anchors that a web page of the document has: headings in lower case, with hyphens for spaces."""
    found = re.findall(r"^#+ (.*)$", prose_of(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def prose_of(path: Path) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("path", [*PAGES, *MODEL_CARDS], ids=lambda path: str(path.relative_to(ROOT)))
def test_anchors_of_links_are_headings(path: Path) -> None:
    links = re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", prose_of(path))
    targets = [(path.parent / name if name else path, anchor) for name, anchor in links]
    assert [(t.name, anchor) for t, anchor in targets if t.exists() and anchor not in headings(t)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_and_tables_fit_a_terminal(path: Path) -> None:
    assert [line for line in prose_of(path).splitlines() if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize("path", [*RESULTS, *MODEL_CARDS], ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_outside_tables_fit_a_terminal(path: Path) -> None:
    lines = [line for line in prose_of(path).splitlines() if not line.startswith("|")]
    assert [line for line in lines if len(line) > MAX_COLUMNS] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_are_short(path: Path) -> None:
    limit = README_LINES if path.name == "README.md" else DOCUMENT_LINES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= limit


def test_contributing_names_files_and_targets_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([^`\s]+)`", text)
    paths = {word for word in quoted if "/" in word and "<" not in word and not word.startswith(("..", "/"))}
    assert len(paths) > 30
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"make ([a-z-]+)", text))
    assert {"install", "check", "test", "test-all"} <= targets
    assert {target for target in targets if not re.search(rf"^{target}:", makefile, re.MULTILINE)} == set()


def test_the_changelog_has_the_version_of_the_package() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(__version__)} – \d{{4}}-\d\d-\d\d", headings[1])


def test_pictures_are_small_and_need_no_web() -> None:
    pictures = [path for path in (ROOT / "docs" / "images").iterdir() if path.suffix in (".png", ".svg")]
    assert len(pictures) >= 2
    assert [path.name for path in pictures if path.stat().st_size > MAX_PICTURE_BYTES] == []
    texts = (path.read_text(encoding="utf-8") for path in pictures if path.suffix == ".svg")
    assert not any(re.search(r"(?:url\(|href=)[\"']?https?:", text) for text in texts)


def test_readme_leads_to_every_document() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        path.name for path in DOCUMENTS if path.parent.name == "docs" and f"docs/{path.name}" not in readme
    ]
    assert missing == []


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = set(re.findall(r"\bmake ([a-z-]+)(?=\s+#|`)", readme))
    assert {"run", "test"} <= used
    assert [target for target in used if not re.search(rf"^{target}:", makefile, re.MULTILINE)] == []


def test_nothing_names_a_registry_or_a_place_on_one_machine() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    suffixes = {".md", ".py", ".toml", ".txt", ".js", ".html", ".css", ".service", ".socket", ".example", ""}
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.suffix not in suffixes or path == Path(__file__).resolve() or not path.is_file():
            continue
        if match := PLACES.search(path.read_text(encoding="utf-8", errors="ignore")):
            found.append(f"{name}: {match.group()}")
    assert found == []
