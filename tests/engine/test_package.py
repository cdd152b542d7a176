"""The package has its public names, and its light modules import no torch."""

import subprocess
import sys

import pytest

import streamasr.engine


def test_every_public_name_is_there() -> None:
    for name in streamasr.engine.__all__:
        assert getattr(streamasr.engine, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = streamasr.engine.Motor


def test_config_and_stats_import_no_torch() -> None:
    program = "import sys, streamasr.engine.config, streamasr.engine.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
