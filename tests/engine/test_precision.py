"""Choose the precision of a native encoder from a measurement, which is kept in a cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from streamasr.acoustic.in_place import supported_precisions
from streamasr.config import Precision
from streamasr.engine import precision as module
from streamasr.engine.measurements import cache_file
from streamasr.engine.precision import fastest, fastest_precision, resolve_precision
from streamasr.errors import ConfigError, ModelError
from tests.recognition.tiny import save_model, tiny_fastconformer


@pytest.fixture(autouse=True)
def cache_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        ((4.0, 2.0, 1.0), "int8"),
        ((4.0, 2.0, 1.9), "bfloat16"),
        ((4.0, 3.9, 3.8), "float32"),
        ((4.0, 9.0, 8.0), "float32"),
        ((4.0, 5.0, 2.0), "int8"),
    ],
)
def test_a_less_exact_precision_must_be_worth_it(
    milliseconds: tuple[float, ...], expected: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: tuple[Precision, ...] = ("float32", "bfloat16", "int8")
    monkeypatch.setattr(module, "supported_precisions", lambda: names)
    assert fastest(dict(zip(names, milliseconds, strict=True))) == expected


def test_a_measurement_is_made_once(cache_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def measure(name: Precision) -> float:
        measured.append(name)
        return 1.0 if name == "int8" else 2.0

    monkeypatch.setattr(module, "_measure", measure)
    cache = cache_file("precision.json")
    assert cache is not None
    assert cache.is_relative_to(cache_home)
    assert [fastest_precision(cache) for _ in range(2)] == ["int8", "int8"]
    assert measured == list(supported_precisions())
    # Another version or processor measures anew, and so does a cache that is damaged.
    cache.write_text(json.dumps({"another processor": {"float32": 1.0}}))
    fastest_precision(cache)
    other, key = json.loads(cache.read_text())
    assert other == "another processor"
    for damaged in ("{", "[1]", json.dumps({key: dict.fromkeys(supported_precisions(), "fast")})):
        cache.write_text(damaged)
        assert fastest_precision(cache) == "int8"
    assert len(measured) == 5 * len(supported_precisions())


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert fastest_precision(tmp_path / "file" / "precision.json") in supported_precisions()


def test_a_user_without_a_home_needs_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert cache_file("precision.json") is None
    assert fastest_precision(None) in supported_precisions()


def test_only_a_native_step_is_measured(tmp_path: Path, cache_home: Path) -> None:
    whisper = save_model(tmp_path / "tiny")
    fastconformer = save_model(tmp_path / "fast", tiny_fastconformer("current"))
    (graph_only := save_model(tmp_path / "graph")).joinpath("model.safetensors").rename(tmp_path / "weights")
    assert resolve_precision("auto", graph_only, "cpu") == "float32"
    assert resolve_precision("auto", fastconformer, "cpu", "onnxruntime") == "float32"
    assert resolve_precision("auto", whisper, "cpu", "torch") == "float32"
    assert resolve_precision("bfloat16", whisper) == "bfloat16"
    assert not cache_home.exists()
    assert resolve_precision("auto", whisper, "cpu") in supported_precisions()
    assert (cache_home / "streamasr" / "precision.json").is_file()
    assert resolve_precision("auto", fastconformer, "cpu") == resolve_precision("auto", whisper, "cpu")
    with pytest.raises(ModelError, match="no such folder"):
        resolve_precision("auto", tmp_path / "none")
    with pytest.raises(ConfigError, match="unknown device"):
        resolve_precision("auto", whisper, "toaster")
