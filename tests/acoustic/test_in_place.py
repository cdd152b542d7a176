"""The native step in slots: equal to the step of values, to the bit the same alone and in any batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from streamasr.acoustic import AnyEncoder, build_encoder, in_place, save_encoder
from streamasr.acoustic.fastconformer import layers
from streamasr.acoustic.in_place import NativeEncoder, load_native_encoder, supported_precisions
from streamasr.acoustic.native_core import Instructions
from streamasr.acoustic.onnx.agreement import compare
from streamasr.acoustic.positions import distance_sinusoids
from streamasr.config import EncoderConfig, FastConformerEncoderConfig, Precision, WhisperEncoderConfig
from streamasr.errors import ConfigError, ModelError
from tests.acoustic.in_slots import InSlots, step_slots

CONFIG = WhisperEncoderConfig(dim=48, heads=4, layers=2, left_context_frames=40, position_period_frames=50)
FASTCONFORMER = FastConformerEncoderConfig(
    n_mels=20,
    dim=48,
    heads=4,
    layers=2,
    subsampling_channels=6,
    left_context_frames=12,
    chunk_frames=(1, 3, 4),
    conv_kernel=5,
)
VOCAB = 7
SIZES: dict[str, EncoderConfig] = {
    "plain": CONFIG,
    "look-ahead": replace(CONFIG, hops_per_chunk=2),
    "stem kernel 9": replace(CONFIG, stem_kernel=9, n_mels=13, hops_per_chunk=4),
    "merging": replace(CONFIG, layers=3, merge_after_layers=1, hops_per_chunk=2),
    "wide heads": replace(CONFIG, dim=128, heads=2, left_context_frames=96),
    "fastconformer": FASTCONFORMER,
    "fastconformer 16x, no biases, no carried inputs": replace(
        FASTCONFORMER, subsampling=16, feed_forward_factor=2, conv_kernel=1, bias=False, scale_input=False
    ),
    "fastconformer, more frames than a panel": replace(
        FASTCONFORMER, n_mels=80, subsampling=2, dim=72, left_context_frames=120, chunk_frames=(3, 40)
    ),
}
FAMILIES = {
    "whisper": SIZES["look-ahead"],
    "whisper, whole tiles": replace(CONFIG, dim=64, hops_per_chunk=2),
    "fastconformer": FASTCONFORMER,
}
TOLERANCE = 1e-4


def random_encoder(config: EncoderConfig, seed: int = 3) -> AnyEncoder:
    torch.manual_seed(seed)
    encoder = build_encoder(config, VOCAB).eval().requires_grad_(False)
    for name, weight in encoder.named_parameters():
        if weight.dim() == 1 or name.endswith("bias_HK"):
            weight.add_(0.1 * torch.randn_like(weight))
        elif name.startswith("head"):
            weight.mul_(8.0)
    return encoder


def native(
    encoder: AnyEncoder, precision: Precision = "float32", instructions: Instructions = "amx"
) -> NativeEncoder:
    weights = {name: tensor.numpy() for name, tensor in encoder.state_dict().items()}
    return NativeEncoder(
        encoder.config, weights, VOCAB, lambda: encoder, precision=precision, instructions=instructions
    )


@pytest.mark.parametrize("instructions", get_args(Instructions))
@pytest.mark.parametrize("size", SIZES)
def test_streams_in_slots_have_the_log_probs_of_streams_of_values(
    size: str, instructions: Instructions
) -> None:
    """Every chunk size, alone and in batches, with rows of any lengths; where the processor has the instructions."""
    encoder = random_encoder(SIZES[size])
    sound_FM = torch.randn(700, encoder.config.n_mels)
    agreement = compare(encoder, InSlots(native(encoder, instructions=instructions)), sound_FM)
    assert agreement.worst <= TOLERANCE
    assert agreement.frames > 1_000


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", [name for name in supported_precisions() if name != "float32"])
def test_reduced_precision_is_close(precision: Precision, family: str) -> None:
    """The bounds hold for these weights on every processor: bfloat16 rounds to 2^-9, int8 to 1/254 of the largest."""
    encoder = random_encoder(FAMILIES[family])
    reduced = native(encoder, precision)
    agreement = compare(encoder, InSlots(reduced), torch.randn(700, encoder.config.n_mels))
    assert agreement.worst > TOLERANCE
    assert agreement.mean < 0.05
    assert agreement.same_best > 0.97
    assert reduced.arithmetic[:2] == ("native", precision)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("instructions", get_args(Instructions))
def test_int8_is_exact_in_every_instruction_set(instructions: Instructions, family: str) -> None:
    """Products of integers are exact, so only the parts in float32 differ."""
    encoder = random_encoder(FAMILIES[family])
    best, other = InSlots(native(encoder, "int8")), InSlots(native(encoder, "int8", instructions))
    agreement = compare(best, other, torch.randn(700, encoder.config.n_mels))
    # A value at the edge between two integers can go to either: a step of 1/127 of its row's largest one.
    assert agreement.mean < 5e-3


@pytest.mark.skipif("AMX" not in in_place.instructions(), reason="this processor has no AMX")
@pytest.mark.parametrize("frames", [1, 5, 16, 19, 32, 45, 64])
def test_tiles_give_the_same_bits_as_dot_products(frames: int) -> None:
    """Sums of 8-bit products are exact. The layers' inputs have 64 and 256 values, which are whole tiles."""
    config = replace(CONFIG, dim=64, chunk_frames=(frames,))
    encoder = random_encoder(config)
    tiles, dots = (native(encoder, "int8", most).open_slots(1) for most in ("amx", "avx512"))
    mel_BTM, lengths_B = torch.randn(1, 2 * frames, config.n_mels), torch.tensor([2 * frames])
    for slots in (tiles, dots):
        slots.reset(0)
    for _ in range(2):
        with_tiles, with_dots = (step_slots(slots, [0], mel_BTM, lengths_B)[0] for slots in (tiles, dots))
        assert torch.equal(with_tiles, with_dots)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("precision", supported_precisions())
@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_a_stream_has_the_same_bits_alone_and_in_any_batch(
    precision: Precision, family: str, data: st.DataObject, seed: int
) -> None:
    torch.manual_seed(seed)
    config = FAMILIES[family]
    encoder = native(random_encoder(config), precision)
    chunk, count = config.chunk_frames[-1] * config.subsampling, 5
    hop = chunk // config.hops_per_chunk
    mel_BTM = torch.randn(count, 5 * chunk, config.n_mels)
    together, alone = encoder.open_slots(count), encoder.open_slots(count)
    for slot in range(count):
        together.reset(slot)
        alone.reset(slot)
    position = [0] * count
    while stepping := [slot for slot in range(count) if position[slot] + chunk <= mel_BTM.shape[1]]:
        chosen = data.draw(st.lists(st.sampled_from(stepping), min_size=1, unique=True), "slots")
        rows = torch.stack([mel_BTM[slot, position[slot] :][:chunk] for slot in chosen])
        lengths, advance = [], []
        for _ in chosen:
            shorter = (
                data.draw(st.integers(0, config.chunk_frames[-1]), "frames of a row") * config.subsampling
            )
            lengths.append(shorter if data.draw(st.booleans(), "is short") else chunk)
            advance.append(hop if lengths[-1] == chunk else lengths[-1])
        lengths_B, advance_B = torch.tensor(lengths), torch.tensor(advance)
        batch_BTV, frames_B = step_slots(together, chosen, rows, lengths_B, advance_B)
        assert frames_B.tolist() == [frames // config.subsampling for frames in advance]
        for row, slot in enumerate(chosen):
            one = slice(row, row + 1)
            (single_TV,), _ = step_slots(alone, [slot], rows[one], lengths_B[one], advance_B[one])
            valid = slice(lengths[row] // config.subsampling)
            assert torch.equal(batch_BTV[row, valid], single_TV[valid])
            position[slot] += max(advance[row], config.subsampling)


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_a_reused_slot_equals_a_new_one(config: EncoderConfig) -> None:
    encoder = native(random_encoder(config))
    used, fresh = encoder.open_slots(1), encoder.open_slots(1)
    frames = config.chunk_frames[-1] * config.subsampling
    lengths_B = torch.tensor([frames])
    used.reset(0)
    for _ in range(5):
        step_slots(used, [0], 9.0 * torch.randn(1, frames, config.n_mels), lengths_B)
    used.reset(0)
    fresh.reset(0)
    for _ in range(5):
        mel_BTM = torch.randn(1, frames, config.n_mels)
        assert torch.equal(
            step_slots(used, [0], mel_BTM, lengths_B)[0], step_slots(fresh, [0], mel_BTM, lengths_B)[0]
        )


@pytest.mark.parametrize(
    ("slots", "lengths", "advance", "bands"),
    [([0, 1], [32], [32], 80), ([0], [33], [32], 80), ([0], [16], [32], 80), ([0], [32], [32], 79)],
)
def test_a_step_with_arguments_that_do_not_fit_changes_nothing(
    slots: list[int], lengths: list[int], advance: list[int], bands: int
) -> None:
    encoder = native(random_encoder(CONFIG))
    changed, same = encoder.open_slots(2), encoder.open_slots(2)
    for slot in (0, 1):
        changed.reset(slot)
        same.reset(slot)
    with pytest.raises(ValueError):
        step_slots(changed, slots, torch.randn(1, 32, bands), torch.tensor(lengths), torch.tensor(advance))
    with pytest.raises(IndexError):
        step_slots(changed, [2], torch.randn(1, 32, 80), torch.tensor([32]))
    mel_BTM, lengths_B = torch.randn(1, 32, 80), torch.tensor([32])
    assert torch.equal(
        step_slots(changed, [0], mel_BTM, lengths_B)[0], step_slots(same, [0], mel_BTM, lengths_B)[0]
    )


@pytest.mark.parametrize(
    ("frames", "length", "advance", "message"),
    [
        (32, 32, 24, "this encoder has no look-ahead"),
        (40, 40, 40, "longer than the longest chunk"),
        (31, 31, 31, "no whole number of encoder frames"),
    ],
)
def test_a_fastconformer_refuses_steps_that_it_cannot_take(
    frames: int, length: int, advance: int, message: str
) -> None:
    slots = native(random_encoder(FASTCONFORMER)).open_slots(1)
    slots.reset(0)
    with pytest.raises(ValueError, match=message):
        step_slots(slots, [0], torch.randn(1, frames, 20), torch.tensor([length]), torch.tensor([advance]))


def test_a_slot_that_was_never_reset_is_refused() -> None:
    slots = native(random_encoder(CONFIG)).open_slots(1)
    with pytest.raises(ValueError, match="slot 0 has no stream"):
        step_slots(slots, [0], torch.randn(1, 32, 80), torch.tensor([32]))
    slots.reset(0)
    with pytest.raises(ValueError, match="slot 0 is in the batch twice"):
        step_slots(slots, [0, 0], torch.randn(2, 32, 80), torch.tensor([32, 32]))


@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES)
def test_values_and_whole_utterances_are_those_of_pytorch(config: EncoderConfig) -> None:
    encoder = random_encoder(config)
    both: list[NativeEncoder | AnyEncoder] = [encoder, native(encoder)]
    mel_BTM, lengths_B = torch.randn(2, 32, config.n_mels), torch.tensor([32, 24])
    steps: list[Tensor] = [one.step(one.initial_state(2), mel_BTM, lengths_B).log_probs_BTV for one in both]
    assert torch.equal(*steps)
    assert torch.equal(*(one.forward(mel_BTM, lengths_B, 4)[0] for one in both))
    assert both[0].parameter_count == both[1].parameter_count


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    encoder, path = random_encoder(CONFIG), tmp_path / "model.safetensors"
    save_encoder(encoder, path)
    load_native_encoder(CONFIG, path, VOCAB, lambda: encoder)
    with pytest.raises(ModelError, match=r"safetensors: the weights do not fit the configuration: blocks\.2"):
        load_native_encoder(replace(CONFIG, layers=3), path, VOCAB, lambda: encoder)
    with pytest.raises(ModelError, match=r"head\.bias is \(7,\), expected \(8,\)"):
        load_native_encoder(CONFIG, path, VOCAB + 1, lambda: encoder)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_native_encoder(CONFIG, path, VOCAB, lambda: encoder)
    with pytest.raises(ModelError, match="no such file"):
        load_native_encoder(CONFIG, tmp_path / "none", VOCAB, lambda: encoder)


def test_fastconformer_weights_of_another_configuration_are_refused() -> None:
    weights = {name: tensor.numpy() for name, tensor in random_encoder(FASTCONFORMER).state_dict().items()}

    def load(config: FastConformerEncoderConfig) -> NativeEncoder:
        return NativeEncoder(config, weights, VOCAB, lambda: build_encoder(config, VOCAB))

    load(FASTCONFORMER)
    with pytest.raises(ModelError, match=r"blocks\.0\.attention\.out\.bias is \(48,\), expected none"):
        load(replace(FASTCONFORMER, bias=False))
    with pytest.raises(ModelError, match=r"depthwise\.weight is \(48, 1, 5\), expected \(48, 1, 9\)"):
        load(replace(FASTCONFORMER, conv_kernel=9))
    with pytest.raises(ModelError, match=r"stem\.out\.weight is \(48, 24\), expected \(48, 66\)"):
        load(replace(FASTCONFORMER, n_mels=80))


def test_tables_of_positions_are_those_of_pytorch() -> None:
    like = torch.zeros(1)
    for first, last, dim in ((83, -13, 512), (0, 0, 2), (70, 1, 36)):
        ours_ND = torch.from_numpy(distance_sinusoids(first, last, dim))
        torch.testing.assert_close(
            ours_ND, layers.distance_sinusoids(first, last, like, dim), atol=1e-6, rtol=0
        )


def test_precisions_that_the_processor_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamasr.acoustic.in_place._native.precisions", lambda: ["float32", "int8"])
    with pytest.raises(ConfigError, match="no instructions for precision bfloat16; it has: float32, int8"):
        native(random_encoder(CONFIG), "bfloat16")
