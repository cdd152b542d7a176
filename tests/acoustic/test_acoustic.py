"""Weights on disk."""

import os
from pathlib import Path

import torch

from streamasr.acoustic import build_encoder, load_encoder, save_encoder
from streamasr.config import WhisperEncoderConfig

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
