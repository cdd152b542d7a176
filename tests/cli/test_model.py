"""Run ``streamasr model`` as a user does."""

import importlib.resources
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from tests.recognition.tiny import noise, save_model


def test_info_shows_files_configuration_and_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_model(tmp_path / "tiny")
    (folder / "README.md").write_text("# Tiny\n" + "line\n" * 20)
    assert main(["model", "info", str(folder)]) == 0
    out = capsys.readouterr().out
    for expected in (
        "model.safetensors",
        "kB",
        "[encoder]",
        "chunk_frames = [4, 8, 16]",
        "# Tiny",
        "9 more lines",
    ):
        assert expected in out


def test_info_does_without_a_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "info", str(save_model(tmp_path / "tiny"))]) == 0
    assert "no model card (README.md)" in capsys.readouterr().out


def test_info_on_an_unknown_model_lists_the_packaged_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["model", "info", str(tmp_path / "nothing")]) == 1
    assert "no such folder and no packaged model" in capsys.readouterr().err


def test_list_names_packaged_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "tiny")
    (tmp_path / "notes").mkdir()
    monkeypatch.setattr(importlib.resources, "files", lambda package: tmp_path)
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out == f"tiny\t{tmp_path / 'tiny'}\n"


def test_a_checkpoint_of_nemo_is_imported_and_its_numbers_written(
    nemo_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, audio = str(tmp_path / "b"), str(nemo_dir / "short.wav")
    assert main(["model", "import-nemo", str(nemo_dir / "B.nemo"), folder, "--name", "mine"]) == 0
    assert "mine, EncDecHybridRNNTCTCBPEModel of 3.0.0, current front end" in capsys.readouterr().out
    logits = ["model", "logits", folder, audio]
    assert main([*logits, str(tmp_path / "s.npz"), "--latency-ms", "160", "--split-seed", "3"]) == 0
    assert main([*logits, str(tmp_path / "w.npz"), "--latency-ms", "160", "--offline"]) == 0
    assert main([*logits, str(tmp_path / "d.npz"), "--offline"]) == 0
    assert "at once in chunks of 1120 ms" in capsys.readouterr().out
    streamed, whole, default = (np.load(tmp_path / f"{name}.npz") for name in "swd")
    assert whole["mel"].shape == (317, 80)
    assert whole["log_probs"].shape == (41, 129)
    assert whole["tokens"][[0, 1, 128]].tolist() == ["<unk>", "▁t", "<blank>"]
    for key in ("mel", "log_probs"):
        assert np.abs(streamed[key] - whole[key]).max() <= 1e-4
    theirs = np.load(nemo_dir / "B.npz")["r13/offline_logprobs_short"]
    assert np.abs(default["log_probs"] - theirs[:41]).max() <= 1e-4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["logits", "m", "a.wav", "o.npz", "--offline", "--split-seed", "1"],
            "--split-seed is for streaming",
        ),
        (
            ["logits", "m", "a.wav", "o.npz", "--latency-ms", "-1"],
            "--latency-ms must not be negative, got -1",
        ),
        (["import-nemo", "a.nemo", "out", "--max-gb", "0"], "--max-gb must be positive, got 0.0"),
        (["import-nemo", "nowhere.nemo", "out"], "nowhere.nemo: no such file"),
    ],
)
def test_wrong_flags_are_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", *flags]) == 1
    assert message in capsys.readouterr().err


def test_logits_of_the_whisper_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, audio = save_model(tmp_path / "tiny"), tmp_path / "noise.wav"
    soundfile.write(audio, noise(1.5, seed=2), 16_000)
    logits = ["model", "logits", str(folder), str(audio)]
    assert main([*logits, str(tmp_path / "s.npz"), "--latency-ms", "80", "--split-seed", "1"]) == 0
    assert main([*logits, str(tmp_path / "w.npz"), "--latency-ms", "80", "--offline"]) == 0
    assert main([*logits, str(tmp_path / "nowhere" / "o.npz")]) == 1
    assert "o.npz: cannot be written: No such file or directory" in capsys.readouterr().err
    streamed, whole = (np.load(tmp_path / f"{name}.npz") for name in "sw")
    assert streamed["mel"].shape == (150, 20)
    for key in ("mel", "log_probs"):
        assert np.abs(streamed[key] - whole[key]).max() <= 1e-4
