"""Test averaging of weights: the arithmetic, the temperature of the head, and models that do not fit together."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic.openai_whisper import from_openai
from streamasr.acoustic.whisper import WhisperEncoder
from streamasr.config import WhisperEncoderConfig
from streamasr.errors import ConfigError, ModelError
from streamasr.training.averaging import Anchor, average_files, mean_weights
from streamasr.training.temperature import read_temperature
from tests.acoustic.whisper_weights import whisper_weights

BODY, HEAD = "blocks.0.out.weight", "head.weight"


def save(path: Path, body: float, head: float, temperature: str | None = None) -> Path:
    state = {BODY: torch.full((2, 2), body, dtype=torch.float16), HEAD: torch.full((3,), head)}
    metadata = {"format": "streamasr"} | ({} if temperature is None else {"temperature": temperature})
    path.write_bytes(safetensors.torch.save(state, metadata))
    return path


def load(path: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(path)


def test_equal_weights_by_default(tmp_path: Path) -> None:
    files = [save(tmp_path / name, body, head) for name, body, head in (("a", 1.0, 2.0), ("b", 3.0, 8.0))]
    average_files(files, tmp_path / "out")
    mean = load(tmp_path / "out")
    assert mean.keys() == {BODY, HEAD}
    assert mean[BODY].dtype == torch.float16
    assert torch.equal(mean[BODY], torch.full_like(mean[BODY], 2.0))
    assert torch.equal(mean[HEAD], torch.full((3,), 5.0))


def test_weights_are_scaled_to_a_sum_of_one(tmp_path: Path) -> None:
    files = [save(tmp_path / name, body, 0.0) for name, body in (("a", 0.0), ("b", 4.0))]
    average_files(files, tmp_path / "out", [3.0, 1.0])
    assert torch.equal(load(tmp_path / "out")[BODY], torch.full((2, 2), 1.0, dtype=torch.float16))


def test_a_negative_weight_recovers_a_model_from_a_mean(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a", 1.0, 2.0), save(tmp_path / "b", 3.0, 8.0)
    average_files([first, second], tmp_path / "mean")
    average_files([tmp_path / "mean", first], tmp_path / "again", [2.0, -1.0])
    for name, tensor in load(second).items():
        assert torch.equal(load(tmp_path / "again")[name], tensor)


def test_heads_are_averaged_as_they_were_trained(tmp_path: Path) -> None:
    # Trained heads of 5 and 7: their mean is 6, which at the first file's temperature is 6 / 2.5.
    files = [save(tmp_path / "a", 1.0, 2.0, "2.5"), save(tmp_path / "b", 3.0, 7.0)]
    average_files(files, tmp_path / "out")
    torch.testing.assert_close(load(tmp_path / "out")[HEAD], torch.full((3,), 2.4))
    assert read_temperature(tmp_path / "out") == 2.5
    average_files(files[::-1], tmp_path / "sharp")
    torch.testing.assert_close(load(tmp_path / "sharp")[HEAD], torch.full((3,), 6.0))
    with safetensors.safe_open(tmp_path / "sharp", "pt") as file:
        assert file.metadata() == {"format": "streamasr"}


def test_one_model_is_its_own_mean(tmp_path: Path) -> None:
    path = save(tmp_path / "a", 1.5, 0.3, "2.5")
    average_files([path], tmp_path / "out")
    for name, tensor in load(path).items():
        torch.testing.assert_close(load(tmp_path / "out")[name], tensor)


def test_the_result_may_replace_one_of_the_models_and_others_can_read_it(tmp_path: Path) -> None:
    files = [save(tmp_path / "a", 1.0, 2.0), save(tmp_path / "b", 3.0, 8.0)]
    average_files(files, files[0])
    assert load(files[0])[BODY][0, 0] == 2.0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert files[0].stat().st_mode & stat.S_IROTH


def test_half_precision_is_averaged_without_overflow() -> None:
    halves = [{"w": torch.full((2,), 60_000.0, dtype=torch.float16)} for _ in range(3)]
    assert torch.equal(mean_weights(halves)["w"], halves[0]["w"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "expected one weight for each of 2 models, got 1"),
        ([0.0, 0.0], "weights must be finite numbers with a sum above 0, got 0, 0"),
        ([1.0, float("nan")], "weights must be finite numbers with a sum above 0, got 1, nan"),
        ([1.0, float("inf")], "weights must be finite numbers"),
        ([1.0, -1.5], "with a sum above 0, got 1, -1.5"),
    ],
)
def test_weights_that_make_no_mean_are_refused(tmp_path: Path, weights: list[float], message: str) -> None:
    files = [save(tmp_path / "a", 1.0, 2.0), save(tmp_path / "b", 3.0, 8.0)]
    with pytest.raises(ConfigError, match=message):
        average_files(files, tmp_path / "out", weights)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({BODY: torch.zeros(2, 2)}, r"lacks parameters that .*a has: head\.weight"),
        (
            {BODY: torch.zeros(2, 2), HEAD: torch.zeros(3), "conv1.bias": torch.zeros(1)},
            r"has parameters that .*a lacks: conv1\.bias",
        ),
        (
            {BODY: torch.zeros(2, 2), HEAD: torch.zeros(4)},
            r"head\.weight has shape \[4\], in .*a it has \[3\]",
        ),
    ],
)
def test_another_kind_of_model_is_refused(tmp_path: Path, state: dict[str, Tensor], message: str) -> None:
    other = tmp_path / "b"
    safetensors.torch.save_file(state, other)
    with pytest.raises(ModelError, match=message):
        average_files([save(tmp_path / "a", 1.0, 2.0), other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_message_names_only_a_few_of_many_parameters(tmp_path: Path) -> None:
    other = tmp_path / "b"
    state = {BODY: torch.zeros(2, 2), HEAD: torch.zeros(3)} | {f"x{i}": torch.zeros(1) for i in range(7)}
    safetensors.torch.save_file(state, other)
    with pytest.raises(ModelError, match="x0, x1, x2, x3, x4 and 2 more"):
        average_files([save(tmp_path / "a", 1.0, 2.0), other], tmp_path / "out")


def test_files_that_cannot_be_read_or_written_are_named(tmp_path: Path) -> None:
    whole, damaged = save(tmp_path / "a", 1.0, 2.0), tmp_path / "b"
    damaged.write_bytes(whole.read_bytes()[:-3])
    with pytest.raises(ModelError, match="b: not a readable safetensors file"):
        average_files([whole, damaged], tmp_path / "out")
    with pytest.raises(ModelError, match="c: no such file of weights"):
        average_files([whole, tmp_path / "c"], tmp_path / "out")
    with pytest.raises(ConfigError, match="out: cannot be written: No such file or directory"):
        average_files([whole], tmp_path / "nowhere" / "out")


def test_a_share_of_pretrained_weights_leaves_the_head_as_it_is(tmp_path: Path) -> None:
    model = save(tmp_path / "a", 1.0, 2.0, "2.5")
    pretrained = tmp_path / "pretrained"
    pretrained.write_bytes(safetensors.torch.save({BODY: torch.full((2, 2), 5.0)}))
    average_files([model], tmp_path / "out", anchor=Anchor(pretrained, 0.25))
    mean = load(tmp_path / "out")
    torch.testing.assert_close(mean[BODY], torch.full((2, 2), 2.0, dtype=torch.float16))
    torch.testing.assert_close(mean[HEAD], torch.full((3,), 2.0))
    assert read_temperature(tmp_path / "out") == 2.5


def test_openai_weights_can_be_the_pretrained_ones(tmp_path: Path) -> None:
    config = WhisperEncoderConfig(dim=8, heads=2, layers=2)
    encoder = WhisperEncoder(config, vocab_size=5)
    model, openai, out = tmp_path / "a", tmp_path / "openai", tmp_path / "out"
    safetensors.torch.save_file(encoder.state_dict(), model)
    safetensors.torch.save_file(whisper_weights(config.dim, config.layers), openai)
    average_files([model], out, anchor=Anchor(openai, 1.0))
    translated = from_openai(load(openai), config.layers)
    for name, tensor in load(out).items():
        expected = translated.get(name, encoder.state_dict()[name])
        torch.testing.assert_close(tensor, expected)


@pytest.mark.parametrize(
    ("content", "share", "message"),
    [
        ({BODY: torch.zeros(2, 2)}, 1.5, "must be from 0 to 1, got 1.5"),
        ({BODY: torch.zeros(3, 2)}, 0.1, r"out.weight has shape \[3, 2\], in the models it has \[2, 2\]"),
        ({"other": torch.zeros(1)}, 0.1, "has none of the parameters of the models"),
    ],
)
def test_pretrained_weights_that_do_not_fit_are_refused(
    tmp_path: Path, content: dict[str, Tensor], share: float, message: str
) -> None:
    model, pretrained = save(tmp_path / "a", 1.0, 2.0), tmp_path / "pretrained"
    pretrained.write_bytes(safetensors.torch.save(content))
    with pytest.raises((ConfigError, ModelError), match=message):
        average_files([model], tmp_path / "out", anchor=Anchor(pretrained, share))
    assert not (tmp_path / "out").exists()


def test_a_pretrained_head_is_taken_as_it_was_trained(tmp_path: Path) -> None:
    # Trained heads of 5 and 10: half of each is 7.5, which at the model's temperature is 7.5 / 2.5.
    model, pretrained = save(tmp_path / "a", 1.0, 2.0, "2.5"), save(tmp_path / "b", 3.0, 2.0, "5.0")
    average_files([model], tmp_path / "out", anchor=Anchor(pretrained, 0.5))
    torch.testing.assert_close(load(tmp_path / "out")[HEAD], torch.full((3,), 3.0))
