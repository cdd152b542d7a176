"""Test whole runs on beeps: training, resuming to the same weights, and exporting a model."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from streamasr.acoustic import load_encoder
from streamasr.config import ModelConfig
from streamasr.errors import ConfigError, DataError
from streamasr.toml import load_toml, to_toml
from streamasr.training.config import (
    LossConfig,
    TokensConfig,
    TrainConfig,
    load_recipe,
)
from streamasr.training.monitoring.events import DevReport, Diagnosis, RunStarted, StepReport
from streamasr.training.trainer import Trainer
from tests.training.beeping import ALONE, deterministic_rows, recipe, run, same_weights


def test_it_learns_to_spell_beeps_at_every_chunk_size(beep_manifest: Path, tmp_path: Path) -> None:
    trainer, events = run(recipe(beep_manifest, 400), tmp_path)
    dev = {event.chunk_frames: event.cer for event in events if isinstance(event, DevReport)}
    assert set(dev) == {8, 16, 32, 64}
    assert max(dev.values()) < 0.1
    steps = [event for event in events if isinstance(event, StepReport)]
    assert steps[-1].ctc < 1.0
    assert steps[-1].hours > 0
    assert 0.3 < steps[-1].blank_share < 1.0
    assert isinstance(events[0], RunStarted)
    assert events[0].frame_ms == 20
    assert not [event for event in events if isinstance(event, Diagnosis)]

    model = load_toml(ModelConfig, tmp_path / "model" / "config.toml")
    assert model.sample_delay == 360
    assert (tmp_path / "model" / "tokens.txt").read_text().split() == ["<blank>", "<space>", "a", "b", "c"]
    loaded = load_encoder(model.encoder, tmp_path / "model" / "model.safetensors", 5)
    for name, weight in trainer.average.module.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], weight, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("loss", [LossConfig(consistency=0.0), LossConfig(consistency=0.2, distillation=0.5)])
def test_a_stopped_run_resumes_to_the_same_weights(
    beep_manifest: Path, tmp_path: Path, loss: LossConfig
) -> None:
    config = replace(recipe(beep_manifest, 6), loss=loss)
    whole, _ = run(config, tmp_path / "whole")
    steps = iter(range(100))
    run(config, tmp_path / "stopped", until=lambda: next(steps) == 3)
    resumed = Trainer(config, tmp_path / "stopped", ALONE, lambda event: None)
    assert resumed.step == 3
    resumed.train()
    same_weights(whole, resumed)


def test_speech_without_transcripts_is_used_for_distillation_only(
    beep_manifest: Path, tmp_path: Path
) -> None:
    config = replace(recipe(beep_manifest, 3), loss=LossConfig(consistency=0.0, distillation=0.5))
    other_texts = tmp_path / "other_texts.jsonl"
    for text in ("", "text outside the tokens"):
        lines = (json.loads(line) for line in beep_manifest.read_text().splitlines())
        rows = (
            {**line, "audio_filepath": str(beep_manifest.parent / line["audio_filepath"])} for line in lines
        )
        other_texts.write_text("".join(json.dumps({**row, "text": text}) + "\n" for row in rows))
        more = replace(config, data=replace(config.data, untranscribed_manifests=(other_texts,)))
        trainer, events = run(more, tmp_path / f"run{len(text)}")
        (report,) = [event for event in events if isinstance(event, StepReport)]
        assert report.ctc > 0
        assert report.distillation > 0
        token_ids = trainer.speech.builder.token_ids
        assert token_ids[30:] == [None] * 30
        assert None not in token_ids[:30]


def test_speech_without_transcripts_needs_distillation(beep_manifest: Path) -> None:
    config = recipe(beep_manifest, 1)
    with pytest.raises(ConfigError, match=r"loss\.distillation must be above 0"):
        replace(config, data=replace(config.data, untranscribed_manifests=(beep_manifest,)))


def test_a_teacher_has_weights_of_its_own(beep_manifest: Path, tmp_path: Path) -> None:
    run(recipe(beep_manifest, 1), tmp_path / "teacher")
    weights = tmp_path / "teacher" / "model" / "model.safetensors"
    config = replace(
        recipe(beep_manifest, 3), teacher=weights, loss=LossConfig(consistency=0.0, distillation=0.5)
    )
    trainer, events = run(config, tmp_path / "student")
    teacher = trainer.objective.teacher
    assert teacher is not None
    stored = load_encoder(config.encoder, weights, len(trainer.tokenizer.tokens)).state_dict()
    for name, weight in teacher.state_dict().items():
        torch.testing.assert_close(weight, stored[name])
    (report,) = [event for event in events if isinstance(event, StepReport)]
    assert report.distillation > 0


def test_a_teacher_needs_distillation(beep_manifest: Path) -> None:
    with pytest.raises(ConfigError, match=r"teacher .* loss\.distillation must be above 0"):
        replace(recipe(beep_manifest, 1), teacher=Path("model.safetensors"))


def test_worker_processes_give_the_same_weights(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 4)
    config = replace(config, augment=replace(config.augment, speeds=(0.9, 1.1), noise_probability=0.5))
    here, _ = run(config, tmp_path / "here")
    elsewhere, _ = run(replace(config, data=replace(config.data, workers=2)), tmp_path / "elsewhere")
    same_weights(here, elsewhere)


def test_accumulated_batches_equal_one_large_batch(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 3)
    config = deterministic_rows(config, 30)  # one row per utterance: each step uses all 30 of them
    config = replace(config, data=replace(config.data, row_seconds=0.1, max_gap_seconds=0.0))
    large, _ = run(config, tmp_path / "large")
    halves = replace(config, data=replace(config.data, rows_per_batch=15))
    small, _ = run(replace(halves, optim=replace(halves.optim, accumulate_batches=2)), tmp_path / "small")
    same_weights(large, small, atol=2e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"checkpoint_layers": True},
        {"loss": LossConfig(consistency=0.0, intermediate=0.3, label_smoothing=0.05)},
        {"precision": "bfloat16"},
        {"precision": "float16"},
    ],
)
def test_options_train_and_change_the_weights_only_if_they_should(
    beep_manifest: Path, tmp_path: Path, change: dict[str, Any]
) -> None:
    config = recipe(beep_manifest, 3)
    plain, _ = run(config, tmp_path / "plain")
    changed, events = run(replace(config, **change), tmp_path / "changed")
    reports = [event for event in events if isinstance(event, StepReport)]
    assert math.isfinite(reports[-1].loss)
    if "checkpoint_layers" in change:
        same_weights(plain, changed)
    else:
        with pytest.raises(AssertionError):
            same_weights(plain, changed)
    assert (reports[-1].intermediate > 0) == ("loss" in change)


def test_gradients_are_clipped_to_the_norm(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 2)
    config = replace(config, optim=replace(config.optim, clip_norm=0.01))
    trainer = Trainer(config, tmp_path, ALONE, lambda event: None)
    norms: list[float] = []

    def measure(*_: object) -> None:
        gradients = [weight.grad for weight in trainer.encoder.parameters() if weight.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))

    trainer.optimizer.register_step_pre_hook(measure)
    trainer.train()
    assert norms == pytest.approx([0.01, 0.01], rel=1e-3)


def test_gradients_are_exchanged_once_per_step(
    beep_manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(beep_manifest, 3)
    config = replace(config, optim=replace(config.optim, accumulate_batches=4))
    exchanged: list[int] = []

    # Without annotations: DDP checks their types, and here they are strings.
    def hook(state, bucket):  # type: ignore[no-untyped-def]
        if bucket.is_last():
            exchanged.append(bucket.index())
        future: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        future.set_result(bucket.buffer())
        return future

    def wrapped(trainer: Trainer) -> DistributedDataParallel:
        model = DistributedDataParallel(trainer.objective)
        model.register_comm_hook(None, hook)
        return model

    plain, _ = run(config, tmp_path / "plain")
    monkeypatch.setattr(Trainer, "_distributed_objective", wrapped)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        shared, _ = run(config, tmp_path / "shared")
    finally:
        dist.destroy_process_group()
    assert len(exchanged) == 3
    same_weights(plain, shared)


def test_early_stopping_exports_the_best_weights(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 200)
    config = replace(
        config, evaluate_every_steps=1,
        optim=replace(config.optim, patience_evaluations=3, learning_rate=1e-9),
    )  # fmt: skip
    trainer, _ = run(config, tmp_path)
    assert trainer.step == 4  # the best evaluation, then three that were not better
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    exported = load_encoder(config.encoder, tmp_path / "model" / "model.safetensors", 5)
    torch.testing.assert_close(exported.head.weight, best["head.weight"], atol=1e-3, rtol=1e-3)


def test_the_mean_of_the_kept_checkpoints_can_be_exported(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 6), save_every_steps=2, keep_checkpoints=2)
    config = replace(config, optim=replace(config.optim, average="checkpoints"))
    trainer, _ = run(config, tmp_path)
    paths = trainer.checkpoints.paths()
    assert [path.name for path in paths] == ["step-00000006.pt", "step-00000004.pt"]
    kept = [torch.load(path, weights_only=True)["encoder"]["head.weight"] for path in paths]
    exported = load_encoder(config.encoder, tmp_path / "model" / "model.safetensors", 5)
    torch.testing.assert_close(exported.head.weight, (kept[0] + kept[1]) / 2, atol=1e-3, rtol=1e-3)


def test_a_transcript_outside_the_tokens_is_named(beep_manifest: Path, tmp_path: Path) -> None:
    config = replace(recipe(beep_manifest, 1), tokens=TokensConfig(characters="ab"))
    with pytest.raises(DataError, match=r"characters outside the tokens: \['c'\] in '"):
        Trainer(config, tmp_path, ALONE, lambda event: None)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.jsonl: no such file"):
        Trainer(recipe(tmp_path / "nowhere.jsonl", 1), tmp_path, ALONE, lambda event: None)


def test_a_recipe_is_the_same_after_saving_and_loading(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 5)
    (tmp_path / "recipe.toml").write_text(to_toml(config))
    assert load_toml(TrainConfig, tmp_path / "recipe.toml") == config


def test_packaged_recipes_load_and_their_paths_are_resolved() -> None:
    config = load_recipe("en-small").rooted(Path("/speech"))
    assert config.pretrained == Path("/speech/pretrained/whisper-base-encoder.safetensors")
    assert config.temperature == 2.5
    assert config.data.manifests[-1] == Path("/speech/made/manifest.jsonl")
    assert all(
        path.is_relative_to("/speech") for path in (*config.data.manifests, *config.data.dev_manifests)
    )
    with pytest.raises(ConfigError, match=r"no such recipe file; packaged recipes are .*en-small"):
        load_recipe("en-smal")


def test_chunk_weights_must_match_the_chunks(beep_manifest: Path) -> None:
    with pytest.raises(ConfigError, match="one weight for each of"):
        replace(recipe(beep_manifest, 1), chunk_weights=(1.0,))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_compiled_run_learns_the_same_weights(beep_manifest: Path, tmp_path: Path) -> None:
    plain, _ = run(recipe(beep_manifest, 4), tmp_path / "plain")
    compiled, _ = run(replace(recipe(beep_manifest, 4), compile=True), tmp_path / "compiled")
    same_weights(plain, compiled, atol=1e-3)


def test_dev_manifests_of_one_file_name_are_reported_apart(beep_manifest: Path, tmp_path: Path) -> None:
    config = recipe(beep_manifest, 1)
    twice = []
    for folder in ("near", "far"):
        manifest = beep_manifest.parent / folder / "dev.jsonl"
        manifest.parent.mkdir()
        manifest.write_text(beep_manifest.read_text().replace('": "', '": "../', 1).splitlines()[0] + "\n")
        twice.append(manifest)
    config = replace(config, data=replace(config.data, dev_manifests=(*twice, twice[0])))
    trainer = Trainer(config, tmp_path / "run", ALONE, lambda event: None)
    assert [dev.name for dev in trainer.speech.dev] == [str(path) for path in twice]
