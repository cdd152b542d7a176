"""The package has its public names, and its light modules import no torch."""

import subprocess
import sys

import pytest

import streamasr.recognition


def test_every_public_name_is_there() -> None:
    for name in streamasr.recognition.__all__:
        assert getattr(streamasr.recognition, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = streamasr.recognition.Motor


def test_chunking_imports_neither_torch_nor_kenlm() -> None:
    program = (
        "import sys, streamasr.recognition.chunking; sys.exit(bool({'torch', 'kenlm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
