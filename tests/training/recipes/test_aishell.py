"""The Mandarin recipe from one end to the other: import, train, build a language model, evaluate, transcribe.

The speech is eSpeak's, in the layout of AISHELL-1, and the model is a toy that hears the same few sentences over
and over: what is tested is that characters go through every part, not that Mandarin is recognised.
"""

from __future__ import annotations

import ctypes
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
import pytest
import soundfile

from streamasr.cli import main
from streamasr.config import FrontendConfig, WhisperEncoderConfig, to_toml
from streamasr.decoding.tokens import TokenList
from streamasr.training.config import AugmentConfig, LossConfig, OptimConfig, TrainConfig, load_recipe
from streamasr.training.report.measured import read_evaluation

SENTENCES = (
    "你好",
    "今天很好",
    "今天不好",
    "明天下雨",
    "明天好",
    "你今天好",
    "不下雨",
    "天不好",
    "下雨天",
    "很不好",
)
SPLITS = {"train": SENTENCES, "dev": SENTENCES[:4]}


class Voice:
    """eSpeak's Mandarin voice, in this process."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._blocks: list[np.ndarray] = []
        self._keep = callback(self._hear)
        synchronous = 2
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(synchronous, 0, data, 0)
        self._library.espeak_SetSynthCallback(self._keep)
        assert self._library.espeak_SetVoiceByName(b"cmn") == 0

    def say(self, text: str) -> np.ndarray:
        """``text`` as samples at ``rate`` Hz."""
        self._blocks.clear()
        letters, utf8 = text.encode() + b"\0", 1
        size = ctypes.c_size_t(len(letters))
        assert self._library.espeak_Synth(letters, size, 0, 0, 0, utf8, None, None) == 0
        return np.concatenate(self._blocks)

    def _hear(self, block: Any, count: int, events: object) -> int:
        if block and count:
            self._blocks.append(np.ctypeslib.as_array(block, (count,)).copy())
        return 0


@dataclass(frozen=True)
class Run:
    """What the recipe left."""

    data: Path
    out: Path

    @property
    def model(self) -> Path:
        return self.out / "model"


def tiny(recipe: TrainConfig) -> TrainConfig:
    """``recipe`` with a toy of an encoder, without augmentation, on a handful of utterances."""
    return replace(
        recipe,
        pretrained=None,
        precision="float32",
        evaluate_every_steps=1_000,
        chunk_weights=(1.0,),
        data=replace(recipe.data, row_seconds=3.0, max_gap_seconds=0.2, rows_per_batch=4, workers=0),
        augment=AugmentConfig(
            speeds=(1.0,),
            noise_probability=0.0,
            babble_probability=0.0,
            room_probability=0.0,
            band_probability=0.0,
            level_db=(-3.0, 3.0),
            tilt_db=1.0,
            time_masks_per_second=0.0,
            frequency_masks=0,
        ),
        loss=LossConfig(consistency=0.0),
        optim=OptimConfig(
            steps=260,
            learning_rate=4e-3,
            layer_decay=1.0,
            head_factor=1.0,
            freeze_encoder_steps=0,
            warmup_steps=10,
            train_stem=True,
            ema_decay=0.95,
        ),
        frontend=FrontendConfig(n_mels=40),
        encoder=WhisperEncoderConfig(
            n_mels=40, dim=64, heads=4, layers=1, left_context_frames=32, chunk_frames=(16,)
        ),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A whole run on eSpeak's sentences."""
    folder = tmp_path_factory.mktemp("mandarin")
    corpus, data, out = folder / "data_aishell", folder / "speech", folder / "run"
    voice, lines = Voice(), []
    for split, texts in SPLITS.items():
        for number, text in enumerate(texts):
            path = corpus / "wav" / split / "S0002" / f"BAC009S{split}{number:04}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice.say(text), voice.rate)
            lines.append(f"{path.stem} {' '.join(text)}\n")
    (corpus / "transcript").mkdir()
    (corpus / "transcript" / "aishell_transcript_v0.8.txt").write_text("".join(lines), encoding="utf-8")
    for split in SPLITS:
        manifest = data / "aishell" / f"{split}.jsonl"
        command = ["data", "import", "aishell", str(corpus), str(manifest), "--split", split]
        assert main([*command, "--workers", "1"]) == 0
    recipe = folder / "tiny.toml"
    recipe.write_text(to_toml(tiny(load_recipe("aishell-small"))), encoding="utf-8")
    command = ["train", str(recipe), "--data", str(data), "--out", str(out), "--device", "cpu"]
    assert main([*command, "--no-tensorboard"]) == 0
    return Run(data, out)


def test_the_tokens_are_the_characters_of_the_training_transcripts(run: Run) -> None:
    tokens = TokenList.load(run.model / "tokens.txt")
    assert tokens.tokens == ("<blank>", *sorted(set("".join(SENTENCES))))
    assert tokens.kind == "characters"


def test_it_is_measured_by_characters_and_has_learnt_some(run: Run) -> None:
    evaluation = read_evaluation(run.out / "evaluation.json")
    assert evaluation.unit == "character"
    assert [measurement.manifest for measurement in evaluation.measurements] == ["dev", "dev"]
    streamed = evaluation.measurements[0]
    assert streamed.cer.value < 0.3
    assert [answer.reference for answer in streamed.answers] == list(SPLITS["dev"])


def test_a_language_model_of_characters_is_built_weighed_and_used(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = str(run.data / "aishell" / "train.jsonl")
    dev = str(run.data / "aishell" / "dev.jsonl")
    build = ["lm", "build", manifest, "--out", str(run.model), "--held-out", dev, "--order", "2"]
    assert main(build) == 0
    assert "0 of 14 words" in capsys.readouterr().out
    small = ["--alpha", "0.2", "0.6", "--beta", "0", "--halvings", "0", "--beam", "8", "--write", "--json"]
    assert main(["lm", "tune", "--model", str(run.model), "--manifest", dev, *small]) == 0
    tuned = json.loads(capsys.readouterr().out)
    evaluate = ["evaluate", "--model", str(run.model), "--manifest", dev, "--json"]
    assert main(evaluate) == 0
    (measured,) = json.loads(capsys.readouterr().out)["measurements"]
    assert measured["mode"] == "beam+lm"
    assert measured["cer"]["value"] == pytest.approx(tuned["trials"][0]["error_rate"])

    audio = next((run.data.parent / "data_aishell" / "wav" / "dev").rglob("*.wav"))
    assert main(["transcribe", str(audio), "--local", "--model", str(run.model)]) == 0
    said = capsys.readouterr().out.strip()
    assert " " not in said
    assert set(said) <= set("".join(SENTENCES) + "\n")
