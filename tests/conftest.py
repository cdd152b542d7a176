"""What every test may need: one thread for torch, the data beside the checkout, the default model's weights."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before torch is first imported: the tests' models are tiny, and several threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of speech and text beside the checkout; tests that need it skip where it is missing."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder shared/data beside the checkout")
    return folder


@pytest.fixture(scope="session")
def nemo_dir() -> Path:
    """Checkpoints saved by NeMo, and what it computes with them; tests that need them skip where they are missing."""
    folder = ROOT.parent / "shared" / "fixtures" / "nemo"
    if not (folder / "A.nemo").is_file():
        pytest.skip("no folder shared/fixtures/nemo beside the checkout")
    return folder


@pytest.fixture(scope="session")
def en_small() -> Path:
    """The default model's folder; tests that need its weights skip where they are missing."""
    folder = ROOT / "models" / "en-small"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("models/en-small has no weights")
    return folder
