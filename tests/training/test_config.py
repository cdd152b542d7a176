"""Test that inconsistent recipes are refused, with the path of the setting named once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from streamasr.errors import ConfigError
from streamasr.toml import from_mapping
from streamasr.training.config import TrainConfig

DATA = {"manifests": ["a.jsonl"]}


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"data": {}}, "data.manifests or shards: exactly one of the two must be given"),
        (
            {"data": {**DATA, "unusable_share": 2.0}},
            "data.unusable_share must be a share from 0 to 1, got 2.0",
        ),
        ({"data": {**DATA, "workers": "two"}}, "data.workers: expected int, got str"),
        (
            {"tokens": {"kind": "pieces"}},
            "tokens.file: missing; kind pieces needs a tokenizer.model, which `streamasr tokens train` makes",
        ),
        ({"encoder": {"dim": 7}}, "encoder.dim must be a multiple of heads (8), got 7"),
        (
            {"encoder": {"family": "fastconformer", "dim": 7}},
            "encoder.dim must be even and a multiple of heads (8), got 7",
        ),
        ({"frontend": {"hop": 0}}, "frontend.hop must be positive, got 0"),
        ({"decoder": {"beam_width": 0}}, "decoder.beam_width must be positive, got 0"),
        ({"endpointing": {"pause_ms": 0}}, "endpointing.pause_ms must be positive, got 0"),
        ({"keep_checkpoints": 0}, "keep_checkpoints must be at least 1, got 0"),
        (
            {"loss": {"intermediate_layer": 6}},
            "loss.intermediate_layer must be below encoder.layers (6), got 6",
        ),
        (
            {"augment": {"frequency_warp": 0.6}},
            "augment.frequency_warp must be a share from 0 to 0.5, got 0.6",
        ),
        (
            {"augment": {"frequency_warp": 0.1}, "frontend": {"n_mfcc": 13}, "encoder": {"n_mels": 13}},
            "augment.frequency_warp moves mel bands: frontend.n_mfcc must be 0",
        ),
        ({"chunk_weights": [1.0]}, "chunk_weights needs one weight for each of encoder.chunk_frames"),
    ],
)
def test_an_error_names_the_path_once(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping(TrainConfig, {"name": "x", "data": DATA, **recipe})
    assert caught.value.message == message


def test_relative_paths_are_resolved_against_the_root() -> None:
    recipe = from_mapping(TrainConfig, {"name": "x", "data": {**DATA, "noise_manifests": ["/n.jsonl"]}})
    rooted = recipe.rooted(Path("/data"))
    assert rooted.data.manifests == (Path("/data/a.jsonl"),)
    assert rooted.data.noise_manifests == (Path("/n.jsonl"),)
    assert rooted.pretrained is None
