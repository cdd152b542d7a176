"""Run ``streamasr model average`` and load the weights that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch

from streamasr.acoustic import Encoder, save_encoder
from streamasr.cli import main
from streamasr.recognition.model import load_model
from tests.recognition.tiny import save_model, tiny_model

WEIGHTS = "model.safetensors"


def test_a_folder_and_a_file_make_weights_that_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = save_model(tmp_path / "tiny"), tmp_path / "other.safetensors"
    encoder = tiny_model(seed=9).encoder
    assert isinstance(encoder, Encoder)
    save_encoder(encoder, other)
    first = safetensors.torch.load_file(folder / WEIGHTS)
    out = folder / WEIGHTS
    assert (
        main(["model", "average", str(folder), str(other), "--weights", "0.25,0.75", "--out", str(out)]) == 0
    )
    assert capsys.readouterr().out == f"{out}: mean of 2 models\n"
    averaged, second = load_model(folder, "cpu", "torch").encoder, safetensors.torch.load_file(other)
    assert isinstance(averaged, Encoder)
    loaded = averaged.state_dict()
    for name, tensor in first.items():
        expected = 0.25 * tensor.float() + 0.75 * second[name].float()
        torch.testing.assert_close(loaded[name].float(), expected, atol=2e-3, rtol=2e-3)


def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = str(save_model(tmp_path / "tiny")), str(tmp_path / "out.safetensors")
    for arguments, message in (
        ([folder, "missing.safetensors", "--out", out], "missing.safetensors: no such weights file"),
        ([folder, str(tmp_path / "nothing"), "--out", out], "no such folder and no packaged model"),
        (
            [folder, folder, "--weights", "1,2,3", "--out", out],
            "expected one weight for each of 2 models, got 3",
        ),
        ([folder, "--pretrained", "none.st", "--out", out], "none.st: no such file of weights"),
        ([folder, "--out", str(tmp_path)], "is a folder; --out must name a .safetensors file"),
    ):
        assert main(["model", "average", *arguments]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["model", "average", folder, "--weights", "half", "--out", out])
    assert "must be numbers separated by commas, such as 0.5,0.5; got 'half'" in capsys.readouterr().err
    assert not Path(out).exists()
