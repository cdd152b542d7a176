"""Run `streamasr model calibrate` with a model that recognises words in any noise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from streamasr.config import ModelConfig
from streamasr.protocol.messages import Final, Start
from streamasr.recognition import load_model
from streamasr.toml import load_toml
from tests.recognition.tiny import messages_of, noise, save_model


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of noise; of the words that the model recognises in it, half are replaced in the transcripts."""
    folder = tmp_path_factory.mktemp("speech")
    model, rng = load_model(save_model(folder / "tiny"), "cpu"), np.random.default_rng(0)
    lines = []
    for number in range(32):
        sound = noise(10.0, seed=number)
        soundfile.write(folder / f"{number}.wav", sound, 16_000)
        messages = messages_of(model, sound, Start(latency_ms=160))
        recognised = " ".join(message.text for message in messages if isinstance(message, Final)).split()
        text = " ".join("zzz" if rng.random() < 0.5 else word for word in recognised)
        lines.append(json.dumps({"audio_filepath": f"{number}.wav", "duration": 10.0, "text": text}))
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def copied(model: Path, folder: Path) -> Path:
    """Copy the model to a folder that the test may change."""
    return Path(shutil.copytree(model, folder / "tiny"))


def test_weights_go_to_the_configuration_and_the_diagram_to_a_file(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, plot = copied(speech.parent / "tiny", tmp_path), tmp_path / "confidence.svg"
    flags = ["--model", str(folder), "--manifest", str(speech), "--chunk-ms", "160", "--device", "cpu"]
    assert main(["model", "calibrate", *flags, "--json", "--write", "--plot", str(plot)]) == 0
    found = json.loads(capsys.readouterr().out)
    written = load_toml(ModelConfig, folder / "config.toml").confidence
    assert written.method == "logistic"
    assert found["config"]["bias"] == written.bias
    assert found["after"]["error"] < found["before"]["error"]
    assert plot.read_text(encoding="utf-8").startswith("<svg")
    assert main(["model", "calibrate", *flags]) == 0
    again = capsys.readouterr().out
    assert f"{found['words']} words" in again
    assert "calibrated: expected calibration error" in again


def test_too_little_speech_is_refused(
    speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(speech.parent / "tiny", tmp_path)
    flags = ["--model", str(folder), "--manifest", str(speech), "--chunk-ms", "160", "--limit", "1"]
    assert main(["model", "calibrate", *flags, "--write"]) == 1
    assert "not enough words to calibrate" in capsys.readouterr().err
    assert load_toml(ModelConfig, folder / "config.toml").confidence.method == "uncalibrated"
    assert main(["model", "calibrate", *flags[:-1], "0"]) == 1
    assert "--limit must be positive, got 0" in capsys.readouterr().err
