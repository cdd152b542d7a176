"""Run the comparison of backends on a tiny encoder."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch

from streamasr.config import WhisperEncoderConfig

TINY = WhisperEncoderConfig(n_mels=20, dim=32, heads=2, layers=1, left_context_frames=12, chunk_frames=(4, 8))


@pytest.fixture(scope="module")
def script(load_benchmark: Callable[[str], ModuleType]) -> ModuleType:
    return load_benchmark("encoder_backends")


@pytest.fixture
def threads() -> Iterator[None]:
    """As many as before, afterwards."""
    count = torch.get_num_threads()
    yield
    torch.set_num_threads(count)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("threads")
def test_every_backend_is_measured_in_every_case_and_agrees(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(script.SIZES, "tiny", lambda: TINY)
    flags = ["--models", "--sizes", "tiny", "--batches", "1", "3", "--rounds", "2", "--threads", "1", "2"]
    monkeypatch.setattr(sys, "argv", ["encoder_backends", *flags])
    assert script.main() == 0
    shown = capsys.readouterr().out.splitlines()
    rows = json.loads(shown[-1])["rows"]
    cases = {
        (row["threads"], row["case"]["latency_ms"], row["case"]["batch"], row["backend"]) for row in rows
    }
    backends = ("torch", *script.GRAPHS, *script.NATIVE)
    assert {"onnxruntime", "onnxruntime-int8", "native-float32", "native-int8"} < set(backends)
    assert cases == {
        (t, ms, b, name) for t in (1, 2) for ms in (80, 160) for b in (1, 3) for name in backends
    }
    assert len(rows) == len(cases)
    for row in rows:
        assert row["cpu_s_per_audio_s"] > 0
        if row["backend"].endswith(("-int8", "-bfloat16")):
            assert row["furthest"] > 1e-4
        else:
            assert row["furthest"] <= (0.0 if row["backend"] == "torch" else 1e-4)
    assert all(row["cpu_ratio"] == row["wall_ratio"] == 1.0 for row in rows if row["backend"] == "torch")
    assert sum("wall" in line for line in shown[:-1]) == 2 * len(backends)
