"""Model folders load, and errors name what is missing."""

import importlib.resources
from pathlib import Path

import pytest
import torch

from streamasr.errors import ConfigError, ModelError
from streamasr.recognition.model import load_model, packaged_models, resolve_model
from tests.recognition.tiny import final_text, messages_of, noise, save_model, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_model(tmp_path / "tiny")


def test_a_saved_model_recognises_again(folder: Path) -> None:
    loaded = load_model(folder, "cpu", "torch")
    assert loaded.config == tiny_model().config
    assert (loaded.sample_rate, loaded.frame_samples, loaded.chunk_ms(8)) == (16_000, 320, 160)
    assert next(loaded.encoder.parameters()).dtype == torch.float32  # type: ignore[attr-defined]
    rounded = tiny_model()
    rounded.encoder.load_state_dict(loaded.encoder.state_dict())  # type: ignore[attr-defined]
    samples = noise(3.0, seed=1)
    text = final_text(messages_of(loaded, samples))
    assert text
    assert text == final_text(messages_of(rounded, samples))


@pytest.mark.parametrize("name", ["config.toml", "model.safetensors", "tokens.txt"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"{name}: missing; a model folder needs"):
        load_model(folder, "cpu")


def test_a_bad_configuration_names_its_file(folder: Path) -> None:
    (folder / "config.toml").write_text("name = 3\n")
    with pytest.raises(ModelError, match=r"config\.toml: name: expected str, got int"):
        load_model(folder, "cpu")


def test_a_bare_name_means_a_packaged_model(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    monkeypatch.chdir("/")
    assert packaged_models() == {"tiny": folder}
    assert resolve_model("tiny") == folder
    assert resolve_model(folder) == folder
    with pytest.raises(ModelError, match="huge: no such folder and no packaged model; packaged models: tiny"):
        resolve_model("huge")


def test_devices_that_are_not_there_are_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="unknown device 'toaster'; use auto, cpu, cuda or cuda:N"):
        load_model(folder, "toaster")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="'cuda' is not available here"):
            load_model(folder, "cuda")
