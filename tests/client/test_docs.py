"""docs/captions.md names every flag of the terminal clients, docs/clients.md every module of the page."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CAPTIONS = (ROOT / "docs" / "captions.md").read_text(encoding="utf-8")
CLIENTS = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["listen", "transcribe"])
def test_every_flag_is_documented(command: str) -> None:
    module = importlib.import_module(f"streamasr.cli.{command}")
    parser = argparse.ArgumentParser(add_help=False)
    module.add_arguments(parser)
    flags = [flag for action in parser._actions for flag in action.option_strings]
    assert flags
    section = CAPTIONS.partition(f"## `streamasr {command}`")[2].partition("\n## ")[0]
    assert [flag for flag in flags if f"`{flag}" not in section] == []
    assert module.EXAMPLE in section


def test_every_module_of_the_page_is_documented() -> None:
    modules = [path.name for path in (ROOT / "client" / "web").glob("*.js")]
    assert modules
    assert [name for name in modules if f"`{name}`" not in CLIENTS] == []
