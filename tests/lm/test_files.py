"""Test the files: KenLM reads the binary like the ARPA text; the commands build and measure models."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import kenlm
import numpy as np
import pytest

from streamasr.cli import main
from streamasr.errors import ConfigError, DataError
from streamasr.lm.build import LmConfig, build_lm, perplexity
from streamasr.lm.kenlm_binary import make_bins, murmur_hash_64a, nearest_bin

ROUNDING_LOG10 = 0.01
"""Largest mean change of a word's score by 8-bit quantisation; rare extreme values share wide bins."""


def generated_sentences(seed: int, sentences: int = 1500) -> list[str]:
    """Generate text of a few hundred different words, each of which depends on the one before."""
    rng = np.random.default_rng(seed)
    steps = rng.zipf(1.8, size=(sentences, 9))
    letters = str.maketrans("0123456789", "abcdefghij")
    texts = []
    for row in steps:
        word, words = 0, []
        for step in row[: 3 + row[0] % 7]:
            word = (word * 7 + int(step)) % 700
            words.append(str(word).translate(letters))
        texts.append(" ".join(words))
    return texts


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm") / "text.txt"
    path.write_text("\n".join(generated_sentences(0)) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("order", [2, 3, 4])
def test_kenlm_reads_the_binary_like_the_arpa_text(tmp_path: Path, text: Path, order: int) -> None:
    config = LmConfig(order=order, max_words=500, prune_threshold=1e-6)
    binary = build_lm([[text]], tmp_path, config, arpa=tmp_path / "lm.arpa", report=lambda _: None)
    quantised, exact = kenlm.Model(str(binary)), kenlm.Model(str(tmp_path / "lm.arpa"))
    assert quantised.order == exact.order == order
    changes = []
    for sentence in generated_sentences(1, sentences=200):
        ours, theirs = (list(lm.full_scores(sentence)) for lm in (quantised, exact))
        assert [o[1:] for o in ours] == [t[1:] for t in theirs], "n-gram lengths and unknown words"
        changes += [abs(o[0] - t[0]) for o, t in zip(ours, theirs, strict=True)]
    assert np.mean(changes) < ROUNDING_LOG10


def test_quantisation_has_no_bias(tmp_path: Path, text: Path) -> None:
    binary = build_lm([[text]], tmp_path, LmConfig(), arpa=tmp_path / "lm.arpa", report=lambda _: None)
    unseen = generated_sentences(2)
    exact = perplexity(tmp_path / "lm.arpa", unseen).perplexity
    assert perplexity(binary, unseen).perplexity == pytest.approx(exact, rel=1e-2)


def test_the_file_has_at_most_the_given_size(tmp_path: Path, text: Path) -> None:
    lines: list[str] = []
    binary = build_lm([[text]], tmp_path, LmConfig(max_mb=0.04), report=lines.append)
    assert 39_000 < binary.stat().st_size <= 40_000
    assert lines[-1] == f"{binary}: 0.0 MB"
    words = (tmp_path / "unigrams.txt").read_text().split()
    assert words == sorted(set(" ".join(generated_sentences(0)).split()))


def test_larger_models_predict_better(tmp_path: Path, text: Path) -> None:
    unseen = generated_sentences(3)
    measured = []
    for max_mb in (0.03, 0.04, 0.5):
        binary = build_lm([[text]], tmp_path / str(max_mb), LmConfig(max_mb=max_mb), report=lambda _: None)
        measured.append(perplexity(binary, unseen).perplexity)
    assert measured[0] > measured[1] > measured[2] * 0.98


def test_known_hashes() -> None:
    """Hashes of words taken from a file that KenLM's own tool wrote."""
    assert {murmur_hash_64a(b"<s>"), murmur_hash_64a(b"</s>")} == {0x00758639BD217E70, 0x6BE0737DF1F76C0A}
    assert murmur_hash_64a(b"recogniser") == 0xA693C95BB08F3971


def test_bins_are_means_of_equal_parts_and_values_get_the_nearest() -> None:
    values = np.array([-1, -2, -3, -4, -9, -10], dtype=np.float32)
    centres = make_bins(values, 3)
    assert centres.tolist() == [-9.5, -3.5, -1.5]
    assert nearest_bin(np.array([-99, -6.6, -6.4, -2.4, 0], dtype=np.float32), centres).tolist() == [
        0,
        0,
        1,
        2,
        2,
    ]


def test_few_values_are_kept_exactly() -> None:
    values = np.array([-5.0, -0.5], dtype=np.float32)
    centres = make_bins(values, 256)
    assert centres[nearest_bin(values, centres)].tolist() == values.tolist()


def test_perplexity_counts_unknown_words_separately(tmp_path: Path, text: Path) -> None:
    binary = build_lm([[text]], tmp_path, LmConfig(order=2), report=lambda _: None)
    known = perplexity(binary, ["a b c"])
    mixed = perplexity(binary, ["a b c", "zzz zzz"])
    assert (known.words, known.oov_words, mixed.words, mixed.oov_words) == (3, 0, 5, 2)
    assert mixed.oov_rate == pytest.approx(0.4)
    assert math.isinf(perplexity(binary, []).perplexity)


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lm.bin").write_text("not a model")
    with pytest.raises(DataError, match="not a KenLM model"):
        perplexity(tmp_path / "lm.bin", ["a"])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"order": 1}, "order must be 2 to 6, got 1"),
        ({"order": 7}, "order must be 2 to 6, got 7"),
        ({"max_words": 0}, "max_words must be positive"),
        ({"max_mb": -1.0}, "max_mb must be positive"),
        ({"prune_threshold": -1.0}, "must not be negative"),
        ({"weights": (1.0, 0.0)}, "weights must be positive"),
    ],
)
def test_settings_out_of_range_are_named(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        LmConfig(**wrong)


def test_weights_must_match_the_sources(tmp_path: Path, text: Path) -> None:
    with pytest.raises(ConfigError, match="a weight for each of 1 sources of text, got 2"):
        build_lm([[text]], tmp_path, LmConfig(weights=(1.0, 2.0)))


def test_the_commands_build_mix_and_measure_models(
    tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("\n".join(generated_sentences(9, sentences=100)), encoding="utf-8")
    flags = ["--out", str(tmp_path), "--order", "2", "--vocab-size", "300", "--weights", "3", "1"]
    assert main(["lm", "build", f"{text},{other}", str(other), *flags, "--held-out", str(other)]) == 0
    assert "perplexity" in capsys.readouterr().out
    assert main(["lm", "perplexity", str(tmp_path / "lm.bin"), str(other), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert 1 < figures["perplexity"] < 300
    assert 0 < figures["oov_words"] < figures["words"]


def test_the_command_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lm", "build", str(tmp_path / "none.txt"), "--out", str(tmp_path)]) == 1
    assert "none.txt: no such file" in capsys.readouterr().err
