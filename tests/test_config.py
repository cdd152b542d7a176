"""Test strict configuration: errors name the full path, and valid settings survive a round trip."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streamasr.config import (
    EndpointConfig,
    FastConformerEncoderConfig,
    ModelConfig,
    NemoFrontendConfig,
    WhisperEncoderConfig,
)
from streamasr.errors import ConfigError
from streamasr.toml import from_mapping, load_toml, to_toml


def test_toml_round_trip(tmp_path: Path) -> None:
    config = ModelConfig(
        name='a "quoted" \\ name',
        encoder=WhisperEncoderConfig(chunk_frames=(4, 8)),
        endpointing=EndpointConfig(silence_ms=1),
    )
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_toml(ModelConfig, path) == config


def test_families_are_chosen_by_name(tmp_path: Path) -> None:
    config = ModelConfig(
        name="x",
        frontend=NemoFrontendConfig(generation="legacy"),
        encoder=FastConformerEncoderConfig(dim=176, heads=4),
    )
    path = tmp_path / "config.toml"
    path.write_text(to_toml(config))
    assert load_toml(ModelConfig, path) == config
    unnamed = from_mapping(ModelConfig, {"name": "x", "encoder": {"stem_kernel": 9}})
    assert unnamed.encoder == WhisperEncoderConfig(stem_kernel=9)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"name": "x", "nmae": 1}, "nmae: unknown field; known fields are name, language"),
        ({}, "name: missing"),
        ({"name": 3}, "name: expected str, got int"),
        ({"name": "x", "encoder": {"layers": "six"}}, "encoder.layers: expected int, got str"),
        ({"name": "x", "encoder": {"layers": True}}, "encoder.layers: expected int, got bool"),
        (
            {"name": "x", "encoder": {"chunk_frames": [8, "x"]}},
            r"encoder.chunk_frames\[1\]: expected int, got str",
        ),
        (
            {"name": "x", "encoder": {"chunk_frames": [16, 8]}},
            "^encoder.chunk_frames must be in ascending order",
        ),
        (
            {"name": "x", "encoder": {"dim": 100, "heads": 3}},
            r"^encoder.dim must be a multiple of heads \(3\), got 100$",
        ),
        (
            {"name": "x", "encoder": {"family": "lstm"}},
            "encoder.family: expected one of 'whisper', 'fastconformer', got 'lstm'",
        ),
        ({"name": "x", "encoder": 3}, "encoder: expected names with values, got int"),
        (
            {"name": "x", "frontend": {"family": "kaldi"}},
            "frontend.family: expected one of 'whisper', 'nemo', got 'kaldi'",
        ),
        (
            {"name": "x", "encoder": {"family": "fastconformer", "stem_kernel": 9}},
            "encoder.stem_kernel: unknown field; known fields are family, n_mels, dim",
        ),
        ({"name": "x", "frontend": {"hop": 0}}, "^frontend.hop must be positive, got 0"),
        (
            {"name": "x", "frontend": {"n_mels": 40}},
            r"^encoder.n_mels must equal frontend.n_mels \(40\), got 80$",
        ),
    ],
)
def test_errors_name_the_field(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_mapping(ModelConfig, mapping)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"frontend": {"n_fft": 100}}, "frontend.n_fft must be at least hop (160), got 100"),
        (
            {"frontend": {"family": "nemo", "window": 300}},
            "frontend.window must be even, at least two hops (320) and at most n_fft (512), got 300",
        ),
        (
            {"encoder": {"hops_per_chunk": 3}},
            "encoder.hops_per_chunk must divide every one of chunk_frames (8, 16, 32, 64), got 3",
        ),
        (
            {"encoder": {"family": "fastconformer", "dropout": 1}},
            "encoder.dropout must be from 0 to below 1, got 1.0",
        ),
        ({"decoder": {"beam_width": 0}}, "decoder.beam_width must be positive, got 0"),
        ({"endpointing": {"pause_ms": -1}}, "endpointing.pause_ms must be positive, got -1"),
        ({"stability": {"hold_words": -1}}, "stability.hold_words must not be negative, got -1"),
    ],
)
def test_the_error_of_a_table_names_its_path_once(
    tmp_path: Path, part: dict[str, dict[str, Any]], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(ModelConfig, {"name": "x", **part})
    assert caught.value.message == message
    file = tmp_path / "config.toml"
    ((table, values),) = part.items()
    lines = [f"{key} = {value!r}" for key, value in values.items()]
    file.write_text("\n".join(['name = "x"', f"[{table}]", *lines]))
    with pytest.raises(ConfigError) as caught:
        load_toml(ModelConfig, file)
    assert caught.value.message == f"{file}: {message}"


def test_an_integer_serves_as_a_float() -> None:
    config = from_mapping(ModelConfig, {"name": "x", "decoder": {"alpha": 1}})
    assert config.decoder == replace(config.decoder, alpha=1.0)
    assert isinstance(config.decoder.alpha, float)


def test_a_file_that_is_missing_or_not_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        load_toml(ModelConfig, tmp_path / "none.toml")
    for content in ("name = ", "name = " + "9" * 5_000, "name = " + "[" * 50_000):
        (tmp_path / "bad.toml").write_text(content)
        with pytest.raises(ConfigError, match=r"bad\.toml: not valid TOML"):
            load_toml(ModelConfig, tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_toml(ModelConfig, tmp_path)
