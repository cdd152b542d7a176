"""Provide NeMo's reference models as model folders, and a synthetic checkpoint for tests without a reference."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
import yaml

from streamasr.nemo.convert import import_nemo
from streamasr.nemo.translate import Generation
from streamasr.recognition.model import LoadedModel, load_model
from tests.nemo.checkpoint import nemo_config, nemo_weights

Folders = Callable[[str, Generation], Path]


@pytest.fixture(scope="session")
def folders(nemo_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Return the model folder of a reference model, by its letter and the front end's generation."""
    made: dict[tuple[str, str], Path] = {}

    def folder(letter: str, generation: Generation) -> Path:
        if (letter, generation) not in made:
            out = tmp_path_factory.mktemp("models") / f"{letter}-{generation}"
            made[letter, generation] = out
            import_nemo(nemo_dir / f"{letter}.nemo", out, generation=generation)
        return made[letter, generation]

    return folder


@pytest.fixture(scope="session")
def loaded(folders: Folders) -> Callable[[str, Generation], LoadedModel]:
    """The same, loaded with states as values in PyTorch."""
    models: dict[tuple[str, str], LoadedModel] = {}

    def load(letter: str, generation: Generation) -> LoadedModel:
        if (letter, generation) not in models:
            models[letter, generation] = load_model(folders(letter, generation), "cpu", "torch")
        return models[letter, generation]

    return load


@pytest.fixture(scope="session")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A SentencePiece model of 20 pieces."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("the cat sat on the mat\nthat cat ate the hat\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "p"), vocab_size=20, model_type="bpe",
        bos_id=-1, eos_id=-1, minloglevel=2,
    )  # fmt: skip
    return (folder / "p.model").read_bytes()


Pack = Callable[..., Path]


@pytest.fixture
def pack(tmp_path: Path, pieces: bytes) -> Pack:
    """Write a checkpoint, optionally with another configuration or other members."""

    def write(config: dict[str, Any] | None = None, mode: str = "w", **members: bytes | None) -> Path:
        config = config or nemo_config()
        checkpoint = io.BytesIO()
        torch.save(nemo_weights(config, 20), checkpoint)
        content: dict[str, bytes | None] = {
            "./model_config.yaml": yaml.safe_dump(config).encode(),
            "./model_weights.ckpt": checkpoint.getvalue(),
            "./abc_tokenizer.model": pieces,
        }
        content |= {f"./{name.replace('__', '.')}": data for name, data in members.items()}
        path = tmp_path / "synthetic.nemo"
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            for name, data in content.items():
                if data is not None:
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        return path

    return write
