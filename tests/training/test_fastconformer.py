"""Test training of FastConformers: from scratch, and from a NeMo checkpoint with other tokens."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from streamasr.acoustic import build_encoder
from streamasr.config import FastConformerEncoderConfig, NemoFrontendConfig, WhisperEncoderConfig
from streamasr.decoding.tokens import TokenList
from streamasr.nemo.convert import import_nemo
from streamasr.recognition.local import transcribe_file
from streamasr.recognition.model import load_model
from streamasr.training.config import TokensConfig, TrainConfig, load_recipe
from streamasr.training.monitoring.events import StepReport
from streamasr.training.pretrained import load_pretrained
from tests.recognition.tiny import final_text
from tests.training.beeping import recipe, run, same_weights

UTTERANCES = 20


@pytest.fixture(scope="module")
def twenty(beep_manifest: Path) -> Path:
    """The first twenty utterances."""
    rows = beep_manifest.read_text().splitlines(keepends=True)[:UTTERANCES]
    path = beep_manifest.with_name("twenty.jsonl")
    path.write_text("".join(rows))
    return path


def small(config: TrainConfig) -> TrainConfig:
    """Return the recipe with a small FastConformer."""
    return replace(
        config,
        chunk_weights=(1.0, 1.0),
        frontend=NemoFrontendConfig(),
        encoder=FastConformerEncoderConfig(
            dim=64, heads=4, layers=2, subsampling_channels=32, left_context_frames=16, chunk_frames=(2, 4)
        ),
    )  # fmt: skip


@pytest.mark.timeout(600)  # half a minute on one idle core
def test_a_small_model_memorises_twenty_utterances(twenty: Path, tmp_path: Path) -> None:
    """WER is 0 at each latency, and the exported model streams the exact texts."""
    trainer, _ = run(small(recipe(twenty, steps=130)), tmp_path)
    assert [report.wer for report in trainer.evaluate()] == [0.0, 0.0]
    model = load_model(tmp_path / "model", "cpu")
    for row in twenty.read_text().splitlines():
        utterance = json.loads(row)
        messages = list(transcribe_file(model, twenty.parent / utterance["audio_filepath"]))
        assert final_text(messages) == utterance["text"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # a minute on one core, mostly compilation
def test_a_compiled_run_learns_the_same(twenty: Path, tmp_path: Path) -> None:
    config = small(recipe(twenty, steps=4))
    plain, _ = run(config, tmp_path / "plain")
    compiled, _ = run(replace(config, compile=True), tmp_path / "compiled")
    same_weights(plain, compiled, atol=1e-3)


def test_a_nemo_checkpoint_can_be_trained_further(
    nemo_dir: Path, beep_manifest: Path, tmp_path: Path
) -> None:
    folder = import_nemo(nemo_dir / "B.nemo", tmp_path / "b").folder
    model = load_model(folder, "cpu", backend="torch")
    assert isinstance(model.config.encoder, FastConformerEncoderConfig)
    config = replace(
        recipe(beep_manifest, steps=2),
        pretrained=folder / "model.safetensors",
        tokens=TokensConfig(kind="pieces", file=folder / "tokenizer.model"),
        frontend=model.config.frontend,
        encoder=replace(model.config.encoder, dropout=0.1),
    )
    _, events = run(config, tmp_path / "run")
    losses = [event.loss for event in events if isinstance(event, StepReport)]
    assert losses
    assert np.isfinite(losses).all()
    further = load_model(tmp_path / "run" / "model", "cpu", backend="torch")
    assert further.config.encoder == config.encoder
    assert further.config.sample_delay == model.config.sample_delay
    moved = further.encoder.state_dict()  # type: ignore[attr-defined]
    for name, weight in model.encoder.state_dict().items():  # type: ignore[attr-defined]
        if not name.startswith("head."):
            assert 0 < (moved[name] - weight).abs().max() < 0.1


def test_rows_of_the_head_go_to_tokens_of_the_same_name(nemo_dir: Path, tmp_path: Path) -> None:
    folder = import_nemo(nemo_dir / "A.nemo", tmp_path / "a").folder
    model = load_model(folder, "cpu", backend="torch")
    old = TokenList.load(folder / "tokens.txt")
    new = TokenList(("<blank>", *old.tokens[1:-1], "new"))
    torch.manual_seed(2)
    encoder = build_encoder(model.config.encoder, len(new))
    fresh = encoder.head.weight[-1].clone()
    assert load_pretrained(encoder, folder / "model.safetensors", new) == []
    theirs = model.encoder.head.weight  # type: ignore[attr-defined]
    assert torch.equal(encoder.head.weight[0], theirs[old.blank])
    assert torch.equal(encoder.head.weight[1:-1], theirs[1:-1])
    assert torch.equal(encoder.head.weight[-1], fresh)


@pytest.mark.parametrize(("size", "millions"), [("small", 13), ("medium", 26), ("large", 109)])
def test_packaged_recipes_have_the_sizes_of_nemo(size: str, millions: int) -> None:
    config = load_recipe(f"fastconformer-ctc-{size}-streaming")
    assert not isinstance(config.encoder, WhisperEncoderConfig)
    with torch.device("meta"):
        encoder = build_encoder(config.encoder, 1025)
    assert round(sum(weight.numel() for weight in encoder.parameters()) / 1e6) == millions
