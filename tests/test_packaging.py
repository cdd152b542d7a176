"""Check that the wheel is complete, and that the files around it agree."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import streamasr

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
BUILT = ("__pycache__", ".venv", "*.egg-info", "*.so", "build", "dist", "shared", "tests", ".*")

pytestmark = pytest.mark.timeout(600)
"""The wheel's native core is compiled, without optimisation, which takes a third of the time."""

CHECKS: dict[str, Callable[[str], bool]] = {
    "the package": "streamasr/cli/serve.py".__eq__,
    "its types": "streamasr/py.typed".__eq__,
    "the client": "streamasr_client/connection.py".__eq__,
    "the client's types": "streamasr_client/py.typed".__eq__,
    "the captions page": "streamasr_client/web/index.html".__eq__,
    "its worklet": "streamasr_client/web/audio-worklet.js".__eq__,
    "the default model's language model": "streamasr_models/en-small/lm.bin".__eq__,
    "its words": "streamasr_models/en-small/unigrams.txt".__eq__,
    "its neural language model": "streamasr_models/en-small/neural_lm.safetensors".__eq__,
    "the systemd unit": "streamasr_systemd/streamasr.service".__eq__,
    "the unit of a user": "streamasr_systemd/user/streamasr.service".__eq__,
    "the licence": lambda name: name.endswith(".dist-info/licenses/LICENSE"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built, without the network, from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "source", ignore=shutil.ignore_patterns(*BUILT))
    project = folder / "source" / "pyproject.toml"
    project.write_text(project.read_text(encoding="utf-8").replace('"-O3"', '"-O0"'), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(
        [*pip, "--wheel-dir", str(folder), str(folder / "source")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def contents(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.parametrize("part", CHECKS)
def test_the_wheel_holds(part: str, contents: list[str]) -> None:
    assert any(CHECKS[part](name) for name in contents)


def test_every_source_file_is_in_the_wheel(contents: list[str]) -> None:
    renamed = {
        "streamasr": "streamasr",
        "client": "streamasr_client",
        "models": "streamasr_models",
        "systemd": "streamasr_systemd",
    }
    missing = []
    for folder, name in renamed.items():
        for path in (ROOT / folder).rglob("*"):
            inside = f"{name}/{path.relative_to(ROOT / folder)}"
            if path.is_file() and "__pycache__" not in path.parts and inside not in contents:
                missing.append(inside)
    assert missing == []


def test_nothing_else_is_in_the_wheel(contents: list[str]) -> None:
    tops = {name.split("/")[0] for name in contents}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "streamasr",
        "streamasr_client",
        "streamasr_models",
        "streamasr_systemd",
    }


def test_the_wheel_has_complete_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert f"Version: {streamasr.__version__}" in metadata
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: <3.13,>=3.11" in metadata
    assert {"train", "dev", "bench"} <= set(re.findall(r"Provides-Extra: (\w+)", metadata))


def test_every_requirement_has_an_exact_version_that_it_admits() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().replace("_", "-").split("==") for line in lines)
    assert len(pins) == len(lines)
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    wanted += [line for extra in project["optional-dependencies"].values() for line in extra]
    for requirement in map(Requirement, wanted):
        name = requirement.name.lower().replace("_", "-")
        if name != "streamasr":
            assert requirement.specifier.contains(pins[name]), requirement


def test_every_package_folder_is_declared() -> None:
    declared = set(PROJECT["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "streamasr").rglob("__init__.py")
    }
    assert found <= declared


def test_models_stay_small_enough_for_git() -> None:
    size = sum(path.stat().st_size for path in (ROOT / "models").rglob("*") if path.is_file())
    assert size <= 90_000_000  # the project's limit for its large files in all
