"""Check that each threat in SECURITY.md names tests, and that they exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODEL = (
    (ROOT / "SECURITY.md")
    .read_text(encoding="utf-8")
    .partition("\n## Threat model\n")[2]
    .partition("\n### What")[0]
)
THREATS = dict(re.findall(r"^\* \*\*(.+?)\*\* (.+?)(?=^\* |^### |\Z)", MODEL, re.MULTILINE | re.DOTALL))


def test_the_threat_model_is_read() -> None:
    assert len(THREATS) == MODEL.count("\n* ") >= 20


@pytest.mark.parametrize("threat", THREATS)
def test_each_threat_names_tests_that_exist(threat: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`:\s+((?:`test_\w+`,?\s*)+)", THREATS[threat])
    assert named
    for file, names in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        defined = {
            node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        assert set(re.findall(r"`(test_\w+)`", names)) <= defined
    assert len(re.findall(r"`test_\w+`", THREATS[threat])) == sum(names.count("`test_") for _, names in named)
