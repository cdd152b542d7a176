"""Test weights on disk, and parameter groups by depth."""

import os
from pathlib import Path

import pytest
import torch

from streamasr.acoustic import build_encoder, load_encoder, save_encoder
from streamasr.config import EncoderConfig, FastConformerEncoderConfig, WhisperEncoderConfig

CONFIG = WhisperEncoderConfig(dim=16, heads=2, layers=1)


def test_saved_weights_come_back_rounded_to_sixteen_bits_and_readable_by_a_daemon(tmp_path: Path) -> None:
    encoder = build_encoder(CONFIG, 5)
    path = tmp_path / "model.safetensors"
    mask = os.umask(0o022)
    try:
        save_encoder(encoder, path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o644
    loaded = load_encoder(CONFIG, path, 5)
    for name, weight in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight.half().float())


@pytest.mark.parametrize(
    "config",
    [CONFIG, FastConformerEncoderConfig(dim=16, heads=2, layers=3)],
    ids=lambda config: config.family,
)
def test_parameter_groups_hold_every_parameter_once_from_the_stem_to_the_head(config: EncoderConfig) -> None:
    encoder = build_encoder(config, vocab_size=5)
    groups = encoder.parameter_groups()
    names = [name for group in groups for name in group.parameters]
    assert sorted(names) == sorted(name for name, _ in encoder.named_parameters())
    assert [(group.part, group.depth) for group in groups] == [
        ("stem", config.layers),
        *(("layers", depth) for depth in reversed(range(config.layers))),
        ("head", 0),
    ]
    assert encoder.parameter_count == sum(weight.numel() for weight in encoder.parameters())
