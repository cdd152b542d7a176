"""Test the Mandarin recipe end to end: import, train, build a language model, evaluate, transcribe.

eSpeak synthesises the speech in the layout of AISHELL-1, and a toy model is trained on a few sentences. The test
shows that all parts handle characters, not that Mandarin is recognised well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import soundfile

from streamasr.cli import main
from streamasr.decoding.tokens import TokenList
from streamasr.report.results import read_evaluation
from streamasr.toml import to_toml
from streamasr.training.config import load_recipe
from tests.training.recipes.toy import Voice, tiny

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
CHANCE = 0.7
"""An untrained toy model has a CER of 1; one that uses no blanks, a poor optimum, of a half."""
SPLITS = {"train": SENTENCES, "dev": SENTENCES[:4]}


@dataclass(frozen=True)
class Run:
    """The files of the run."""

    data: Path
    out: Path

    @property
    def model(self) -> Path:
        return self.out / "model"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run the recipe on eSpeak's sentences."""
    folder = tmp_path_factory.mktemp("mandarin")
    corpus, data, out = folder / "data_aishell", folder / "speech", folder / "run"
    voice, lines = Voice("cmn"), []
    for split, texts in SPLITS.items():
        for number, text in enumerate(texts):
            path = corpus / "wav" / split / "S0002" / f"BAC009S{split}{number:04}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, voice.synthesise(text), voice.rate)
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


def test_it_is_measured_by_characters_and_has_learnt_something(run: Run) -> None:
    evaluation = read_evaluation(run.out / "evaluation.json")
    assert evaluation.unit == "character"
    assert [measurement.manifest for measurement in evaluation.measurements] == ["dev", "dev"]
    streamed = evaluation.measurements[0]
    assert streamed.cer.value < CHANCE
    assert [answer.reference for answer in streamed.answers] == list(SPLITS["dev"])


def test_a_language_model_of_characters_is_built_tuned_and_used(
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
    text = capsys.readouterr().out.strip()
    assert " " not in text
    assert set(text) <= set("".join(SENTENCES) + "\n")
