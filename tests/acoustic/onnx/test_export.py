"""Compare graphs of both families with their encoders, and test graphs that must be refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import safetensors.torch
import torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder, build_encoder, load_encoder, save_encoder
from streamasr.acoustic.onnx import export
from streamasr.acoustic.onnx.agreement import LOG_PROB_TOLERANCE, PROBABILITY_TOLERANCE, Agreement, compare
from streamasr.acoustic.onnx.export import export_encoder
from streamasr.acoustic.onnx.runtime import OnnxEncoder
from streamasr.config import EncoderConfig, FastConformerEncoderConfig, WhisperEncoderConfig
from streamasr.errors import ConfigError, ModelError

pytestmark = pytest.mark.timeout(600)
VOCAB = 7
TOLERANCE = 1e-4
"""For log-probs of the tiny encoders here, whose two layers leave little to rounding."""
_WHISPER = WhisperEncoderConfig(
    n_mels=20, dim=32, heads=2, layers=2, left_context_frames=12, chunk_frames=(4, 8)
)
CONFIGS: dict[str, EncoderConfig] = {
    "whisper": _WHISPER,
    "whisper merged, with look-ahead": replace(_WHISPER, merge_after_layers=1, hops_per_chunk=2),
    "fastconformer": FastConformerEncoderConfig(
        n_mels=20,
        dim=32,
        heads=2,
        layers=2,
        subsampling_channels=8,
        left_context_frames=14,
        chunk_frames=(1, 2, 7),
    ),
}


class Exported(NamedTuple):
    """A graph, its encoder, and their agreement."""

    encoder: AnyEncoder
    config: EncoderConfig
    weights: Path
    path: Path
    agreement: Agreement


def saved(config: EncoderConfig, folder: Path, seed: int) -> AnyEncoder:
    """Save and load an encoder with weights large enough to matter."""
    torch.manual_seed(seed)
    encoder = build_encoder(config, VOCAB)
    for weight in encoder.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, 0.0, 1.5 / weight[0].numel() ** 0.5)
    save_encoder(encoder, folder / "model.safetensors")
    return load_encoder(config, folder / "model.safetensors", VOCAB)


def sound(seed: int = 0) -> Tensor:
    return torch.randn(500, 20, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=CONFIGS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    config, folder = CONFIGS[request.param], tmp_path_factory.mktemp("model")
    encoder = saved(config, folder, seed=1)
    weights, path = folder / "model.safetensors", folder / "encoder.onnx"
    return Exported(encoder, config, weights, path, export_encoder(encoder, config, weights, path, sound()))


def test_the_graph_agrees_with_the_encoder(exported: Exported) -> None:
    assert exported.agreement.worst <= TOLERANCE
    assert exported.agreement.same_best == 1.0
    again = compare(exported.encoder, OnnxEncoder(exported.path, threads=1), sound(seed=9), seed=3)
    assert again.worst <= TOLERANCE
    assert again.frames > 100


def test_one_graph_serves_every_batch_and_step_size(exported: Exported) -> None:
    encoder, graph = exported.encoder, OnnxEncoder(exported.path)
    for batch, frames in ((1, 1), (5, 3), (2, max(encoder.chunk_frames))):
        mel_BTM = torch.randn(batch, frames * encoder.subsampling, 20)
        lengths_B = torch.full((batch,), mel_BTM.shape[1])
        expected = encoder.step(encoder.initial_state(batch), mel_BTM, lengths_B)
        got = graph.step(graph.initial_state(batch), mel_BTM, lengths_B)
        assert got.log_probs_BTV.shape == expected.log_probs_BTV.shape
        torch.testing.assert_close(got.lengths_B, expected.lengths_B)
        for row, count in enumerate(expected.lengths_B):
            torch.testing.assert_close(
                got.log_probs_BTV[row, :count], expected.log_probs_BTV[row, :count], atol=TOLERANCE, rtol=0
            )


def test_the_state_given_is_left_as_it_was(exported: Exported) -> None:
    graph = OnnxEncoder(exported.path)
    state = graph.initial_state(2)
    mel_BTM = torch.randn(2, exported.encoder.subsampling, 20)
    new_state = graph.step(state, mel_BTM, torch.full((2,), mel_BTM.shape[1])).state
    assert not any(bool(leaf.any()) for leaf in state)
    assert any(bool(leaf.any()) for leaf in new_state)


def test_the_graph_describes_itself(exported: Exported) -> None:
    graph = OnnxEncoder(exported.path)
    for name in ("subsampling", "left_padding_frames", "hops_per_chunk", "chunk_frames"):
        assert getattr(graph, name) == getattr(exported.encoder, name)
    assert graph.vocab_size == VOCAB
    assert graph.info.parameters == sum(weight.numel() for weight in exported.encoder.parameters())


def test_no_line_of_source_is_in_the_graph(exported: Exported) -> None:
    content = exported.path.read_bytes()
    assert b"streamasr/acoustic" not in content
    assert str(Path.home()).encode() not in content


def test_the_weights_are_those_of_the_file_beside_it(exported: Exported, tmp_path: Path) -> None:
    """A model that is trained further needs no new graph."""
    graph = tmp_path / "encoder.onnx"
    graph.write_bytes(exported.path.read_bytes())
    trained = saved(exported.config, tmp_path, seed=2)
    assert compare(trained, OnnxEncoder(graph), sound()).worst <= TOLERANCE
    assert compare(exported.encoder, OnnxEncoder(graph), sound()).worst > 0.1


def test_weights_of_another_layout_are_refused(exported: Exported, tmp_path: Path) -> None:
    graph = tmp_path / "encoder.onnx"
    graph.write_bytes(exported.path.read_bytes())
    with pytest.raises(ModelError, match=r"encoder\.onnx"):
        OnnxEncoder(graph)
    save_encoder(exported.encoder, tmp_path / "model.safetensors", torch.float32)
    with pytest.raises(ModelError, match="other weights"):
        OnnxEncoder(graph)


def test_weights_that_begin_elsewhere_in_the_file_are_refused(exported: Exported, tmp_path: Path) -> None:
    """Longer metadata moves the tensors: a graph would read them at wrong offsets."""
    graph, weights = tmp_path / "encoder.onnx", tmp_path / "model.safetensors"
    graph.write_bytes(exported.path.read_bytes())
    tensors = safetensors.torch.load_file(exported.weights)
    safetensors.torch.save_file(tensors, weights, {"format": "streamasr", "note": "a longer one"})
    with pytest.raises(ModelError, match="other weights"):
        OnnxEncoder(graph)


def test_a_graph_that_does_not_agree_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    off = Agreement(
        steps=1, frames=1, worst=float("inf"), worst_probability=float("inf"), mean=0.0, same_best=1.0
    )
    monkeypatch.setattr(export, "compare", lambda *_: off)
    encoder = saved(CONFIGS["whisper"], tmp_path, seed=1)
    weights, out = tmp_path / "model.safetensors", tmp_path / "encoder.onnx"
    with pytest.raises(ModelError, match="nothing was written"):
        export_encoder(encoder, CONFIGS["whisper"], weights, out, sound())
    assert list(tmp_path.iterdir()) == [weights]


@pytest.mark.parametrize(
    ("log_prob", "probability", "written"),
    [
        (LOG_PROB_TOLERANCE, PROBABILITY_TOLERANCE, True),
        (1.01 * LOG_PROB_TOLERANCE, 0.0, False),
        (0.0, 1.01 * PROBABILITY_TOLERANCE, False),
    ],
)
def test_the_graph_may_differ_by_what_rounding_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_prob: float, probability: float, written: bool
) -> None:
    """The bounds of docs/export.md: 5e-4 for a log-prob, 1e-4 for a probability."""
    assert (LOG_PROB_TOLERANCE, PROBABILITY_TOLERANCE) == (5e-4, 1e-4)
    found = Agreement(
        steps=1, frames=1, worst=log_prob, worst_probability=probability, mean=0.0, same_best=1.0
    )
    monkeypatch.setattr(export, "compare", lambda *_: found)
    encoder = saved(CONFIGS["whisper"], tmp_path, seed=1)
    weights, out = tmp_path / "model.safetensors", tmp_path / "encoder.onnx"
    if written:
        assert export_encoder(encoder, CONFIGS["whisper"], weights, out, sound()) == found
    else:
        with pytest.raises(ModelError, match="nothing was written"):
            export_encoder(encoder, CONFIGS["whisper"], weights, out, sound())
    assert out.exists() == written


def test_eight_bits_are_smaller_and_need_no_weights_beside(exported: Exported, tmp_path: Path) -> None:
    path = tmp_path / "encoder.onnx"
    agreement = export_encoder(exported.encoder, exported.config, exported.weights, path, sound(), int8=True)
    assert TOLERANCE < agreement.worst < float("inf")
    assert agreement.same_best > 0.9
    graph = OnnxEncoder(path)
    assert graph.info.precision == "int8"
    assert compare(exported.encoder, graph, sound()).worst == pytest.approx(agreement.worst, rel=0.2)


def test_nan_never_agrees(exported: Exported) -> None:
    agreement = compare(exported.encoder, OnnxEncoder(exported.path), sound() * torch.nan)
    assert agreement.worst == agreement.worst_probability == float("inf")
    assert not agreement.within_tolerance


def test_whole_utterances_use_the_offline_encoder(exported: Exported) -> None:
    mel_BTM, lengths_B = sound()[None], torch.tensor([480])
    with pytest.raises(ConfigError, match="whole utterances need the model's own weights"):
        OnnxEncoder(exported.path).forward(mel_BTM, lengths_B, None)
    graph = OnnxEncoder(exported.path, load_offline_encoder=lambda: exported.encoder)
    torch.testing.assert_close(
        graph.forward(mel_BTM, lengths_B, None), exported.encoder(mel_BTM, lengths_B, None)
    )


def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        OnnxEncoder(tmp_path / "encoder.onnx")
    (tmp_path / "encoder.onnx").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="not a readable graph"):
        OnnxEncoder(tmp_path / "encoder.onnx")
