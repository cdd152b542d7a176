"""Choose the backend of a model folder; both backends give the same text."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch

from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.cli import main
from streamasr.errors import ConfigError, ModelError
from streamasr.recognition.export import export_model
from streamasr.recognition.model import load_model
from tests.recognition.tiny import final_text, messages_of, noise, save_model

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with an exported graph."""
    folder = save_model(tmp_path_factory.mktemp("models") / "tiny")
    export_model(folder, folder)
    return folder


def copied(folder: Path, place: Path) -> Path:
    shutil.copytree(folder, place)
    return place


def test_auto_takes_the_graph_where_there_is_one(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(load_model(folder, "cpu").encoder, OnnxEncoder)
    assert isinstance(load_model(folder, "cpu", "torch").encoder, torch.nn.Module)
    plain = copied(folder, tmp_path / "plain")
    (plain / "encoder.onnx").unlink()
    with caplog.at_level(logging.INFO, "streamasr.recognition.backend"):
        assert isinstance(load_model(plain, "cpu").encoder, torch.nn.Module)
    assert f"`streamasr model export {plain} {plain} --onnx` makes it" in caplog.text
    with pytest.raises(ModelError, match=r"encoder\.onnx: no such file; `streamasr model export"):
        load_model(plain, "cpu", "onnxruntime")


def test_both_backends_give_the_same_text(folder: Path) -> None:
    models = [load_model(folder, "cpu", backend) for backend in ("torch", "onnxruntime")]
    for seed in range(3):
        texts = [final_text(messages_of(model, noise(4.0, seed=seed))) for model in models]
        assert texts[0]
        assert texts[0] == texts[1]
    assert models[0].parameters == models[1].parameters
    mel_BTM, lengths_B = torch.randn(1, 96, 20), torch.tensor([96])
    whole, same = (model.encoder.forward(mel_BTM, lengths_B, None) for model in models)
    torch.testing.assert_close(whole, same)


def test_a_graph_of_another_configuration_is_not_run(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = copied(folder, tmp_path / "other")
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace("chunk_frames = [4, 8, 16]", "chunk_frames = [4, 8]"))
    with pytest.raises(ModelError, match="made for another configuration"):
        load_model(other, "cpu", "onnxruntime")
    with caplog.at_level(logging.WARNING):
        assert isinstance(load_model(other, "cpu").encoder, torch.nn.Module)
    assert "made for another configuration" in caplog.text


def test_the_graph_is_for_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(ConfigError, match="--device cpu, or --backend torch"):
        load_model(folder, "cuda", "onnxruntime")


def test_the_command_makes_a_folder_of_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    assert main(["model", "export", str(folder), str(out), "--onnx", "--int8"]) == 0
    assert "log-probs" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == ["config.toml", "encoder.onnx", "tokens.txt"]
    small = load_model(out, "cpu")
    assert isinstance(small.encoder, OnnxEncoder)
    assert small.encoder.info.precision == "int8"
    assert final_text(messages_of(small, noise(4.0)))
    with pytest.raises(ModelError, match=r"model\.safetensors: no such file"):
        load_model(out, "cpu", "torch")
    assert main(["model", "export", str(folder), str(out), "--onnx"]) == 1
    assert "already exists" in capsys.readouterr().err


def test_the_default_models_graph_fits_it(en_small: Path) -> None:
    """Where this fails, `streamasr model export models/en-small models/en-small --onnx` puts it right."""
    model = load_model(en_small, "cpu", "onnxruntime")
    assert isinstance(model.encoder, OnnxEncoder)
    assert model.encoder.info.precision == "float32"
