"""Test word pieces end to end: train the tokenizer and a model, evaluate and transcribe.

A toy model is trained on a few sentences; the test shows that all parts handle word pieces.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from streamasr.cli import main
from streamasr.decoding.tokens import TokenList
from streamasr.report.results import read_evaluation
from streamasr.toml import to_toml
from streamasr.training.config import DataConfig, TokensConfig, TrainConfig
from tests.training.recipes.toy import Voice, tiny

SENTENCES = (
    "the boat left",
    "she left the boat",
    "the harbour",
    "her letter",
    "the other boat",
    "she read her letter",
)
PIECES = 26
CHANCE = 0.8
"""An untrained toy model has a CER of 1."""


def test_a_model_with_word_pieces_is_trained_and_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voice, rows = Voice("en"), []
    for number, text in enumerate(SENTENCES):
        samples = voice.synthesise(text)
        soundfile.write(tmp_path / f"{number}.wav", samples, voice.rate)
        row = {"audio_filepath": f"{number}.wav", "duration": len(samples) / voice.rate, "text": text}
        rows.append(json.dumps(row) + "\n")
    manifest, pieces, out = tmp_path / "train.jsonl", tmp_path / "tokenizer.model", tmp_path / "run"
    manifest.write_text("".join(rows))
    assert main(["tokens", "train", str(manifest), "--size", str(PIECES), "--out", str(pieces)]) == 0

    recipe = TrainConfig(
        name="pieces",
        tokens=TokensConfig(kind="pieces", file=Path("tokenizer.model")),
        data=DataConfig(manifests=(Path("train.jsonl"),), dev_manifests=(Path("train.jsonl"),)),
        chunk_weights=(1.0, 1.0, 1.0, 1.0),
    )
    (tmp_path / "recipe.toml").write_text(to_toml(tiny(recipe)))
    train = ["train", str(tmp_path / "recipe.toml"), "--data", str(tmp_path), "--out", str(out)]
    assert main([*train, "--device", "cpu", "--no-tensorboard"]) == 0
    tokens = TokenList.load(out / "model" / "tokens.txt")
    assert tokens.kind == "pieces"
    assert len(tokens) == PIECES
    assert (out / "model" / "tokenizer.model").read_bytes() == pieces.read_bytes()
    streamed = read_evaluation(out / "evaluation.json").measurements[0]
    assert streamed.cer.value < CHANCE

    model = str(out / "model")
    assert main(["lm", "build", str(manifest), "--out", model, "--order", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "--model", model, "--manifest", str(manifest), "--json"]) == 0
    (measured,) = json.loads(capsys.readouterr().out)["measurements"]
    assert measured["mode"] == "beam+lm"
    assert measured["cer"]["value"] < CHANCE
    assert main(["transcribe", str(tmp_path / "1.wav"), "--local", "--model", model]) == 0
    assert set(capsys.readouterr().out.split()) & set(SENTENCES[1].split())
