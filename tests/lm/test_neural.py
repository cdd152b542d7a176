"""A neural language model learns from text, is stored in 8 bits, and scores texts alone as in a list."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from streamasr.cli import main
from streamasr.decoding.neural_lm import (
    END,
    Context,
    NeuralLanguageModel,
    NeuralLmConfig,
    StoredNeuralLm,
    load_stored_neural_lm,
    save_neural_lm,
)
from streamasr.errors import ConfigError, DataError, ModelError
from streamasr.lm.neural_network import NeuralLmNetwork
from streamasr.lm.neural_perplexity import neural_perplexity
from streamasr.lm.neural_training import (
    NeuralTrainConfig,
    NeuralTrainingProgress,
    build_neural_corpus,
    stored_from,
    train_neural_lm,
)
from streamasr.recurrent.arithmetic import Vector
from tests.lm.test_files import generated_sentences

SMALL = NeuralLmConfig(words=400, dim=24, hidden=32, layers=2)
QUICK = NeuralTrainConfig(
    minutes=1, learning_rate=1e-2, streams=16, words=16, drawn_words=128, average_decay=0.98, threads=1
)
VOCABULARY = ("a", "bad", "cat", "sat")
WORDS = ("a", "bad", "zebra", "cat")


def random_model(seed: int = 0) -> StoredNeuralLm:
    torch.manual_seed(seed)
    config = NeuralLmConfig(words=2 + len(VOCABULARY), dim=12, hidden=16, layers=2, unknown_words=10)
    network = NeuralLmNetwork(config, dropout=0.0)
    with torch.no_grad():
        network.table.mul_(20)
        network.table_bias.normal_()
    return stored_from(network, VOCABULARY)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("neural") / "neural_lm.safetensors"
    reports: list[NeuralTrainingProgress] = []
    ticks = iter(range(0, 10_000))
    train_neural_lm(
        generated_sentences(0, 4_000),
        out,
        QUICK,
        SMALL,
        report=reports.append,
        clock=lambda: next(ticks) / 8,
    )
    assert reports[-1].loss < reports[0].loss
    return out


def test_training_teaches_which_word_follows(trained: Path) -> None:
    lm = NeuralLanguageModel.load(trained)
    sentences = generated_sentences(1, 60)
    shuffled = [" ".join(reversed(sentence.split())) for sentence in sentences]
    in_order = neural_perplexity(lm, [sentences]).perplexity
    assert in_order < 0.6 * neural_perplexity(lm, [shuffled]).perplexity
    unigram_perplexity = 400
    assert in_order < unigram_perplexity / 2


def test_a_run_can_begin_with_a_model(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "neural_lm.safetensors"
    start = load_stored_neural_lm(trained)
    ticks = iter(range(0, 10_000))
    config = replace(QUICK, learning_rate=1e-4, minutes=0.2)
    other = [f"{sentence} neverseen" for sentence in generated_sentences(2, 1_000)]
    train_neural_lm(other, out, config, start=start, clock=lambda: next(ticks) / 8)
    result = load_stored_neural_lm(out)
    assert (result.config, result.vocabulary) == (start.config, start.vocabulary)
    sentences = generated_sentences(1, 60)
    before = neural_perplexity(NeuralLanguageModel(start), [sentences]).perplexity
    after = neural_perplexity(NeuralLanguageModel(result), [sentences]).perplexity
    assert after != before
    assert after < 1.2 * before


def test_a_run_that_is_stopped_leaves_its_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamasr.lm.neural_training.SAVE_MINUTES", 0.1)
    out = tmp_path / "neural_lm.safetensors"
    ticks = iter(range(0, 10_000))

    def stop(progress: NeuralTrainingProgress) -> None:
        if progress.step >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_neural_lm(
            generated_sentences(0, 1_000), out, QUICK, SMALL, report=stop, clock=lambda: next(ticks) / 8
        )
    assert load_stored_neural_lm(out).config.dim == SMALL.dim
    assert [each.name for each in tmp_path.iterdir()] == [out.name]


def test_a_folder_that_cannot_be_written_is_refused_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def never() -> float:
        raise AssertionError("trained for nothing")

    with pytest.raises(ConfigError, match="file: cannot be written"):
        train_neural_lm(generated_sentences(0, 1_000), tmp_path / "file" / "x", QUICK, SMALL, clock=never)


def test_the_numpy_model_is_the_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = NeuralLmConfig(words=6, dim=12, hidden=16, layers=2, unknown_words=10)
    network = NeuralLmNetwork(config, dropout=0.0)
    lm = NeuralLanguageModel(stored_from(network, VOCABULARY))
    rows = torch.tensor([[END, END, 2, 3, 0, 4]])
    with torch.no_grad():
        expected, _ = network(rows, network.initial_carries(1))
        log_probs = (expected @ network.table.T + network.table_bias).log_softmax(-1)[0]
    following = [2, 3, 0, 4, END]
    total = sum(float(log_probs[at, row]) for at, row in enumerate(following)) - math.log(10)
    score = lm.log_probs(lm.initial_state(), [WORDS], end_of_sentence=True)[0]
    assert score == pytest.approx(total, abs=1e-4)


def test_texts_are_scored_alone_as_in_a_list() -> None:
    lm = NeuralLanguageModel(random_model())
    texts = [WORDS, WORDS[:2], (), ("sat", "sat"), (*WORDS, "cat"), WORDS]
    for end_of_sentence in (False, True):
        together = lm.log_probs(lm.initial_state(), texts, end_of_sentence=end_of_sentence)
        alone = [
            lm.log_probs(lm.initial_state(), [text], end_of_sentence=end_of_sentence)[0] for text in texts
        ]
        assert together == pytest.approx(alone, abs=1e-5)


def test_the_state_carries_the_text_before() -> None:
    lm = NeuralLanguageModel(random_model())
    whole = lm.log_probs(lm.initial_state(), [WORDS], end_of_sentence=True)[0]
    for split in range(len(WORDS) + 1):
        first = lm.log_probs(lm.initial_state(), [WORDS[:split]])[0]
        state = lm.advance(lm.initial_state(), WORDS[:split])
        rest = lm.log_probs(state, [WORDS[split:]], end_of_sentence=True)[0]
        assert first + rest == pytest.approx(whole, abs=1e-5)
    ended = lm.advance(lm.initial_state(), WORDS, end_of_sentence=True)
    assert lm.log_probs(ended, [WORDS])[0] != pytest.approx(
        lm.log_probs(lm.initial_state(), [WORDS])[0], abs=1e-3
    )


def test_the_next_word_has_a_distribution() -> None:
    lm = NeuralLanguageModel(random_model())
    state = lm.advance(lm.initial_state(), ["bad"])
    words = lm.log_probs(state, [[word] for word in VOCABULARY])
    unknown = lm.log_probs(state, [["zebra"]])[0]
    end = lm.log_probs(state, [()], end_of_sentence=True)[0]
    assert np.exp(words).sum() + 10 * np.exp(unknown) + np.exp(end) == pytest.approx(1, abs=1e-5)


def test_the_frequent_words_can_share_the_probability() -> None:
    lm = NeuralLanguageModel(random_model())
    state = lm.advance(lm.initial_state(), ["bad"])
    frequent = lm.log_probs(state, [[word] for word in VOCABULARY[:2]], frequent_words=2)
    unknown = lm.log_probs(state, [["zebra"]], frequent_words=2)[0]
    end = lm.log_probs(state, [()], end_of_sentence=True, frequent_words=2)[0]
    assert np.exp(frequent).sum() + 10 * np.exp(unknown) + np.exp(end) == pytest.approx(1, abs=1e-5)
    others = [lm.log_probs(state, [["sat"]], frequent_words=count)[0] for count in (2, 4)]
    assert others[0] > others[1]
    assert others[1] == pytest.approx(lm.log_probs(state, [["sat"]])[0], abs=1e-6)


class _CountingLm(NeuralLanguageModel):
    """Counts the words that it reads."""

    words_read = 0

    def _read(self, pairs_N2: NDArray[np.int64], carries: Sequence[Vector]) -> tuple[Vector, list[Vector]]:
        self.words_read += len(pairs_N2)
        return super()._read(pairs_N2, carries)


def test_a_context_keeps_what_was_read() -> None:
    lm = _CountingLm(random_model())
    state = lm.advance(lm.initial_state(), ["bad"])
    texts = [("the", "cat", "sat"), ("the", "bad", "sat")]
    longer = [(*text, "cat") for text in texts]
    lm.words_read = 0
    ((_, context),) = lm.read([(Context(state), texts)])
    assert lm.words_read == 4, "nothing, 'the', 'the cat' and 'the bad'"
    ((log_probs, context),) = lm.read([(context, longer)])
    assert lm.words_read == 6, "the two whole texts"
    assert log_probs == pytest.approx(lm.log_probs(state, longer), abs=1e-5)
    lm.words_read = 0
    after = lm.advance_context(context, ["the", "cat"])
    ((rest, _),) = lm.read([(after, [("sat", "cat")])])
    assert lm.words_read == 0
    assert rest == pytest.approx(lm.log_probs(lm.advance(state, ["the", "cat"]), [("sat", "cat")]), abs=1e-5)


@pytest.mark.parametrize("words", [(), ("sat",), ("the", "cat"), ("the", "cat", "sat", "zebra")])
def test_a_context_advances_like_a_state(words: tuple[str, ...]) -> None:
    lm = NeuralLanguageModel(random_model())
    ((_, context),) = lm.read([(Context(lm.initial_state(), 3), [("the", "cat", "sat"), ("sat", "sat")])])
    advanced, state = lm.advance_context(context, words), lm.advance(lm.initial_state(), words)
    assert advanced.state.rows == state.rows
    assert advanced.frequent_words == 3
    for carry, expected in zip(advanced.state.carries, state.carries, strict=True):
        assert carry == pytest.approx(expected, abs=1e-6)


def test_several_contexts_are_read_as_each_alone() -> None:
    lm = NeuralLanguageModel(random_model())
    states = [lm.advance(lm.initial_state(), words) for words in ([], ["bad"], ["the", "zebra"])]
    texts: list[list[tuple[str, ...]]] = [[WORDS, WORDS[:2]], [()], [("sat", "sat"), ("cat",), WORDS]]
    work = [(Context(state), some) for state, some in zip(states, texts, strict=True)]
    ((_, known),) = lm.read(work[:1])
    for together in (work, [(known, texts[0]), *work[1:]]):
        for (log_probs, context), (alone, some) in zip(lm.read(together), work, strict=True):
            assert log_probs == pytest.approx(lm.log_probs(alone.state, some), abs=1e-5)
            ((again, _),) = lm.read([(context, some)])
            assert again == pytest.approx(log_probs, abs=1e-12)
    assert lm.read([]) == []


def test_a_context_forgets_what_was_not_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamasr.decoding.neural_lm.MAX_OUTPUTS", 4)
    lm = NeuralLanguageModel(random_model())
    ((_, first),) = lm.read([(Context(lm.initial_state()), [("the", "cat", "sat")])])
    ((log_probs, second),) = lm.read([(first, [("bad", "cat", "sat")])])
    assert len(first.outputs) == 3
    assert len(second.outputs) == 3
    assert log_probs == pytest.approx(lm.log_probs(lm.initial_state(), [("bad", "cat", "sat")]), abs=1e-5)


def test_texts_without_words_are_certain() -> None:
    lm = NeuralLanguageModel(random_model())
    assert lm.log_probs(lm.initial_state(), [(), ()]).tolist() == [0.0, 0.0]
    assert len(lm.log_probs(lm.initial_state(), [])) == 0


def test_long_lists_are_scored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    lm = NeuralLanguageModel(random_model())
    rng = np.random.default_rng(0)
    texts = [tuple(rng.choice(VOCABULARY, 6)) for _ in range(40)]
    whole = lm.log_probs(lm.initial_state(), texts, end_of_sentence=True)
    monkeypatch.setattr("streamasr.decoding.neural_lm.NODES_AT_ONCE", 3)
    assert lm.log_probs(lm.initial_state(), texts, end_of_sentence=True) == pytest.approx(whole, abs=1e-5)


def test_a_stored_model_is_the_model_within_its_rounding(tmp_path: Path) -> None:
    before = random_model()
    path = tmp_path / "models" / "neural_lm.safetensors"
    save_neural_lm(path, before)
    after = load_stored_neural_lm(path)
    assert (after.config, after.vocabulary) == (before.config, before.vocabulary)
    for name, value in before.weights.items():
        assert np.abs(after.weights[name] - value).max() <= np.abs(value).max() / 127 + 1e-3
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_files_that_are_no_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "neural_lm.safetensors"
    path.write_bytes(b"text")
    with pytest.raises(ModelError, match="not a safetensors file"):
        NeuralLanguageModel.load(path)
    save_file({"x": np.zeros(3)}, path, {"format": "other"})
    with pytest.raises(ModelError, match=r"not a neural language model: .* 'other', expected 'streamasr"):
        NeuralLanguageModel.load(path)
    model = random_model()
    save_neural_lm(path, model._replace(vocabulary=("a",)))
    with pytest.raises(ModelError, match="it has 1 words; its 6 rows are for 4"):
        NeuralLanguageModel.load(path)
    save_neural_lm(path, model._replace(weights={**model.weights, "norm.bias": np.zeros(3, np.float32)}))
    with pytest.raises(ModelError, match=r"the tensor norm.bias must have the shape \(16,\), got \(3,\)"):
        NeuralLanguageModel.load(path)
    broken = {**model.weights, "norm.bias": np.full(16, np.nan, np.float32)}
    save_neural_lm(path, model._replace(weights=broken))
    with pytest.raises(ModelError, match="a weight is not a finite number"):
        NeuralLanguageModel.load(path)


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="minutes must be positive, got 0"):
        NeuralTrainConfig(minutes=0)
    with pytest.raises(ConfigError, match="dropout must be at least 0 and below 1, got 1"):
        NeuralTrainConfig(dropout=1)
    with pytest.raises(ConfigError, match="words must be more than 2, got 2"):
        NeuralLmConfig(words=2)
    with pytest.raises(ConfigError, match="hidden must be positive, got 0"):
        NeuralLmConfig(hidden=0)


def test_a_text_that_is_too_short_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too short: expected more than 100 sentences"):
        build_neural_corpus(["a b"] * 100, 50)
    with pytest.raises(DataError, match="too short: expected at least 4800 words"):
        train_neural_lm(["a b"] * 150, tmp_path / "x", NeuralTrainConfig(threads=1))


def test_rare_words_share_a_row_and_blocks_stay_in_order() -> None:
    sentences = [f"common word{at}" for at in range(250)]
    corpus = build_neural_corpus(sentences, 10)
    assert corpus.vocabulary[0] == "common"
    assert len(corpus.vocabulary) == 8
    kept = 250 - sum(map(len, corpus.held_out))
    assert corpus.unknown_words == kept + 1 - 8
    assert sum(map(len, corpus.blocks)) == 3 * kept
    assert all(block[-1] == END for block in corpus.blocks)


def test_the_commands_train_and_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("\n".join(generated_sentences(0, 2_000)))
    out = tmp_path / "model"
    train = ["lm", "train", str(tmp_path / "text"), "--out", str(out), "--minutes", "0.02", "--threads", "1"]
    assert main([*train, "--vocab-size", "300"]) == 0
    assert re.search(
        r"neural_lm.safetensors: [\d.]+ MB, perplexity [\d.]+ on held-out", capsys.readouterr().out
    )
    (tmp_path / "dev").write_text("\n".join([*generated_sentences(1, 30), "neverseen"]))
    measure = ["lm", "perplexity", str(out / "neural_lm.safetensors"), str(tmp_path / "dev"), "--json"]
    assert main(measure) == 0
    measured = json.loads(capsys.readouterr().out)
    assert 1 < measured["perplexity"] < math.inf
    assert measured["oov_words"] >= 1
    again = [*train, "--start", str(out / "neural_lm.safetensors"), "--learning-rate", "1e-3"]
    assert main(again) == 0
    assert load_stored_neural_lm(out / "neural_lm.safetensors").config.words == 300


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["lm", "train", str(tmp_path / "text"), "--out", str(tmp_path)]
    assert main(train) == 1
    assert "text: no such file" in capsys.readouterr().err
    (tmp_path / "text").write_text("a b\n")
    assert main([*train, "--minutes", "-1"]) == 1
    assert "minutes must be positive, got -1" in capsys.readouterr().err
    assert main([*train, "--learning-rate", "0"]) == 1
    assert "learning_rate must be positive, got 0" in capsys.readouterr().err
    assert main([*train, "--start", str(tmp_path / "none")]) == 1
    assert "none: no such file" in capsys.readouterr().err
