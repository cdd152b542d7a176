"""``streamasr model`` as a user runs it."""

from pathlib import Path

import pytest

from streamasr.cli import main
from streamasr.engine import model as model_module
from tests.engine.tiny import save_model


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


def test_info_on_nothing_fails_with_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "info", str(tmp_path / "nothing")]) == 1
    assert "no such folder and no packaged model" in capsys.readouterr().err


def test_list_names_packaged_models(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(tmp_path / "tiny")
    (tmp_path / "notes").mkdir()
    monkeypatch.setattr(model_module.importlib.resources, "files", lambda package: tmp_path)
    assert main(["model", "list"]) == 0
    assert capsys.readouterr().out == f"tiny\t{tmp_path / 'tiny'}\n"
