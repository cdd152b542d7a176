"""Choose the backend of a model folder; all backends give the same text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from streamasr.acoustic.in_place import NativeEncoder
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.cli import main
from streamasr.config import Backend
from streamasr.errors import ConfigError, ModelError
from streamasr.recognition.export import export_model
from streamasr.recognition.model import load_model
from tests.recognition.tiny import final_text, messages_of, noise, save_model, tiny_fastconformer

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


@pytest.fixture(scope="module")
def fastconformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of the other family, with an exported graph."""
    folder = save_model(tmp_path_factory.mktemp("models") / "fast", tiny_fastconformer("current"))
    export_model(folder, folder)
    return folder


@pytest.mark.parametrize("family", ["folder", "fastconformer"])
def test_auto_takes_the_native_step_where_there_are_weights(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(family)
    model = load_model(folder, "cpu")
    assert isinstance(model.encoder, NativeEncoder)
    assert model.encoder.arithmetic[:2] == ("native", "float32")
    assert load_model(folder, "cpu", "native", precision="int8").encoder.arithmetic[:2] == ("native", "int8")
    assert isinstance(load_model(folder, "cpu", "onnxruntime").encoder, OnnxEncoder)
    assert isinstance(load_model(folder, "cpu", "torch").encoder, torch.nn.Module)
    plain = copied(folder, tmp_path / "plain")
    (plain / "encoder.onnx").unlink()
    assert isinstance(load_model(plain, "cpu").encoder, NativeEncoder)
    with pytest.raises(ModelError, match=r"encoder\.onnx: no such file; `streamasr model export"):
        load_model(plain, "cpu", "onnxruntime")


def test_auto_takes_the_graph_where_there_are_no_weights(fastconformer: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    export_model(fastconformer, small, int8=True)
    assert isinstance(load_model(small, "cpu").encoder, OnnxEncoder)
    with pytest.raises(ConfigError, match="precision int8 needs the native step"):
        load_model(small, "cpu", precision="int8")
    with pytest.raises(ModelError, match=r"model\.safetensors: no such file"):
        load_model(small, "cpu", "native")


@pytest.mark.parametrize("family", ["folder", "fastconformer"])
def test_all_backends_give_the_same_text(family: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(family)
    models = [load_model(folder, "cpu", backend) for backend in ("torch", "onnxruntime", "native")]
    for seed in range(3):
        texts = [final_text(messages_of(model, noise(4.0, seed=seed))) for model in models]
        assert texts[0]
        assert texts[0] == texts[1] == texts[2]
    assert len({model.parameters for model in models}) == 1
    mel_BTM, lengths_B = torch.randn(1, 96, 20), torch.tensor([96])
    whole, *others = (model.encoder.forward(mel_BTM, lengths_B, None) for model in models)
    for same in others:
        torch.testing.assert_close(whole, same)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_only_the_native_step_has_other_precisions(folder: Path, backend: Backend) -> None:
    with pytest.raises(ConfigError, match="precision int8 needs the native step"):
        load_model(folder, "cpu", backend, precision="int8")


def test_a_graph_of_another_configuration_is_not_run(fastconformer: Path, tmp_path: Path) -> None:
    other = copied(fastconformer, tmp_path / "other")
    config = (other / "config.toml").read_text()
    (other / "config.toml").write_text(config.replace("chunk_frames = [1, 2, 4]", "chunk_frames = [1, 2]"))
    with pytest.raises(ModelError, match="made for another configuration"):
        load_model(other, "cpu", "onnxruntime")
    assert isinstance(load_model(other, "cpu").encoder, NativeEncoder)


def test_native_step_and_graph_are_for_the_cpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    for backend in ("native", "onnxruntime"):
        with pytest.raises(ConfigError, match="--device cpu, or --backend torch"):
            load_model(folder, "cuda", backend)


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
