"""Provide what tests of all packages share: one thread and a seed for torch, data beside the checkout, the model."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

# Before torch is first imported: the tests' models are tiny, and several threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example may take as long as the machine needs.
hypothesis.settings.register_profile("streamasr", deadline=None)
hypothesis.settings.load_profile("streamasr")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


SharedData = Callable[[str], Path]
"""Takes a folder's name in :data:`SHARED_DATA` and returns its path; skips the test where it is missing."""
SHARED_DATA = {
    "data/dev-librispeech": (
        "LibriSpeech dev-clean from openslr.org/12, imported with `streamasr data import librispeech`"
    ),
    "data/dev-l2": "speechocean762 from openslr.org/101, imported with `streamasr data import speechocean762`",
    "data/noise-esc10": "ESC-10 from github.com/karolpiczak/ESC-50, as Opus",
    "data/fsdd": "the Free Spoken Digit Dataset from github.com/Jakobovski/free-spoken-digit-dataset",
    "fixtures/nemo": "checkpoints of streaming FastConformers saved by NeMo, with its log-probs (docs/nemo.md)",
}
"""Folders in ``shared/`` beside the checkout, and where a user gets such data."""


@pytest.fixture(scope="session")
def shared_data() -> SharedData:
    """Return the path of a folder in ``shared/`` beside the checkout, or skip with where to get such data."""

    def find(name: str) -> Path:
        folder = ROOT.parent / "shared" / name
        if not folder.is_dir():
            pytest.skip(f"needs ../shared/{name}: {SHARED_DATA[name]}")
        return folder

    return find


@pytest.fixture(scope="session")
def nemo_dir(shared_data: SharedData) -> Path:
    """Checkpoints saved by NeMo, and the log-probs that it computes with them."""
    return shared_data("fixtures/nemo")


@pytest.fixture(autouse=True)
def seeded_torch() -> None:
    """Random tensors are the same in every run, and a failure can be repeated. Does not import torch."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def en_small() -> Path:
    """The default model's folder; tests that need its weights skip where they are missing."""
    folder = ROOT / "models" / "en-small"
    if not (folder / "model.safetensors").is_file():
        pytest.skip("models/en-small has no weights")
    return folder
