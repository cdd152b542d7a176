"""Check that docs/architecture.md names code that exists."""

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOC = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEP = re.compile(r"`(streamasr/[\w/]+)\.py`:\s+`(\w+)\.(\w+)`")


def test_every_step_of_a_sample_s_way_names_code_that_exists() -> None:
    steps = STEP.findall(DOC)
    assert len(steps) >= 12
    for module, owner, method in steps:
        assert callable(getattr(getattr(importlib.import_module(module.replace("/", ".")), owner), method))


def test_every_package_is_in_the_table_of_layers() -> None:
    packages = {path.parent.name for path in (ROOT / "streamasr").glob("*/__init__.py")}
    table = DOC[DOC.index("## Packages and layers") : DOC.index("## Contracts")]
    assert packages <= set(re.findall(r"`(\w+)`", table))


def test_every_place_in_the_glossary_exists() -> None:
    places = re.findall(r"\(`([a-z_/.]+)`\)", DOC[DOC.index("## Glossary") :])
    assert len(places) >= 30
    assert [p for p in places if not ((ROOT / "streamasr" / p).exists() or (ROOT / p).exists())] == []
