"""Import the benchmarks, which are scripts outside any package, from their folder."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def load_benchmark(repository: Path) -> Iterator[Callable[[str], ModuleType]]:
    """A script's module by its name; scripts find one another as they do when one is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(repository / "benchmarks"))
        yield importlib.import_module
