"""The default model on real speech: streams agree with whole utterances, and the graph with exact arithmetic.

float32 rounds every result by up to 6e-8 of it, and a log-prob of ``en-small`` comes from six layers of sums over
512 to 2048 products. The order in which products are added depends on the processor (the width of its vectors,
whether it fuses multiplication and addition) and on the sizes of the matrices, so rounding differs between processors
and between backends. The bounds here hold for every order: see docs/export.md.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from streamasr.acoustic import AnyEncoder, Encoder
from streamasr.acoustic.interface import AnyStreamingEncoder, Arithmetic, StepOutput
from streamasr.acoustic.onnx.agreement import LOG_PROB_TOLERANCE, PROBABILITY_TOLERANCE
from streamasr.manifest import Utterance, read_manifest
from streamasr.media.reader import read_audio
from streamasr.memory import release_freed_memory
from streamasr.protocol.messages import Start
from streamasr.recognition.local import transcribe_file
from streamasr.recognition.model import LoadedModel, load_model
from tests.acoustic.in_slots import InSlots
from tests.conftest import SharedData
from tests.recognition.tiny import final_text

STREAMING_TOLERANCE = 1e-4
"""Between a stream and the whole utterance in one backend: only the sizes of the matrices differ."""
CHUNKS = [8, 16, 32, 64]
SETS = ("librispeech", "l2")


class Speech:
    """Clips in a batch, through a model's front end at once or in chunks."""

    def __init__(self, clips: Sequence[Utterance], model: LoadedModel) -> None:
        sounds = [torch.from_numpy(read_audio(clip.audio, model.sample_rate)) for clip in clips]
        pcm_BS = torch.nn.utils.rnn.pad_sequence(sounds, batch_first=True)
        self.pcm_BS = torch.nn.functional.pad(pcm_BS, (0, -pcm_BS.shape[1] % model.frame_samples))
        self.frames_B = torch.tensor([-(-len(sound) // model.frame_samples) for sound in sounds])
        self.model = model

    def whole(self, encoder: AnyEncoder, chunk_frames: int) -> Tensor:
        """Log-probs of the frames of all clips, one clip after another."""
        mel_BTM = self.model.frontend(self.pcm_BS).to(encoder.head.weight.dtype)
        log_probs_BTV, _ = encoder.forward(mel_BTM, self.frames_B * encoder.subsampling, chunk_frames)
        return torch.cat([row_TV[:count] for row_TV, count in zip(log_probs_BTV, self.frames_B, strict=True)])

    def streamed(self, encoder: AnyStreamingEncoder, chunk_frames: int) -> Tensor:
        """The same, chunk by chunk."""
        count = len(self.frames_B)
        mel_state = self.model.frontend.initial_state(count)
        state = encoder.initial_state(count)
        parts: list[list[Tensor]] = [[] for _ in range(count)]
        for number, part_BS in enumerate(self.pcm_BS.split(chunk_frames * self.model.frame_samples, dim=1)):
            mel_state, mel_BTM = self.model.frontend.step(mel_state, part_BS)
            left_B = (self.frames_B - number * chunk_frames).clamp(0, mel_BTM.shape[1] // encoder.subsampling)
            state, log_probs_BTV, _ = encoder.step(state, mel_BTM, left_B * encoder.subsampling)
            for row, left in enumerate(left_B):
                parts[row].append(log_probs_BTV[row, :left])
        return torch.cat([torch.cat(row) for row in parts])


class ExactEncoder:
    """An encoder's streaming step in float64, for a model whose front end computes in float32."""

    supports_whole_utterances = False

    def __init__(self, encoder: AnyEncoder) -> None:
        self._encoder = copy.deepcopy(encoder).double()
        self.vocab_size = encoder.vocab_size
        self.subsampling = encoder.subsampling
        self.left_padding_frames = encoder.left_padding_frames
        self.chunk_frames = encoder.chunk_frames
        self.hops_per_chunk = encoder.hops_per_chunk
        self.parameter_count = encoder.parameter_count
        self.arithmetic = Arithmetic("torch", "float64")

    def initial_state(self, batch: int) -> tuple[Tensor, ...]:
        state: tuple[Tensor, ...] = self._encoder.initial_state(batch)
        return state

    def step(
        self, state: tuple[Tensor, ...], mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[tuple[Tensor, ...]]:
        return self._encoder.step(state, mel_BTM.double(), lengths_B, advance_B)

    def forward(self, mel_BTM: Tensor, lengths_B: Tensor, chunk_frames: int | None) -> tuple[Tensor, Tensor]:
        raise AssertionError("only streams are compared")


@pytest.fixture(scope="module")
def pytorch(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu", "torch")


@pytest.fixture(scope="module")
def encoder(pytorch: LoadedModel) -> AnyEncoder:
    assert isinstance(pytorch.encoder, Encoder)
    return pytorch.encoder


@pytest.fixture(scope="module")
def graph(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu", "onnxruntime")


@pytest.fixture(scope="module")
def native(en_small: Path) -> LoadedModel:
    return load_model(en_small, "cpu", "native")


@pytest.fixture(scope="module")
def clips(repository: Path) -> list[Utterance]:
    data = repository / "tests" / "data"
    return [clip for name in SETS for clip in read_manifest(data / name / "manifest.jsonl")]


@pytest.fixture(scope="module", params=["together", "alone"])
def batches(request: pytest.FixtureRequest, clips: list[Utterance], pytorch: LoadedModel) -> list[Speech]:
    """All clips in one batch, and each in a batch of its own."""
    if request.param == "together":
        return [Speech(clips, pytorch)]
    return [Speech([clip], pytorch) for clip in clips]


@pytest.mark.parametrize("chunk_frames", CHUNKS)
@torch.inference_mode()
def test_streamed_log_probs_are_those_of_whole_utterances(
    encoder: AnyEncoder, batches: list[Speech], chunk_frames: int
) -> None:
    """The bound is a contract of the project. The layers whose rounding errors the later ones multiply most add in
    float64 (``streamasr.acoustic.whisper``); the rest was 4.3e-5 at most with kernels for AVX-512 and AVX2.
    """
    for speech in batches:
        streamed, whole = speech.streamed(encoder, chunk_frames), speech.whole(encoder, chunk_frames)
        torch.testing.assert_close(streamed, whole, atol=STREAMING_TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk_frames", CHUNKS)
@torch.inference_mode()
def test_the_graphs_log_probs_are_those_of_exact_arithmetic(
    encoder: AnyEncoder, graph: LoadedModel, batches: list[Speech], chunk_frames: int
) -> None:
    """float64 rounds half a billion times finer than float32, so the whole difference is the graph's own rounding.

    Half of the frames are within 3e-6, 99 % within 2e-5. The largest differences, up to 2e-4, are at improbable
    tokens (log-probs below -8) of single frames whose position depends on the processor. An error *e* of a log-prob
    changes a probability *p* by *p e*, so probabilities are bounded more tightly.
    """
    exact_encoder = copy.deepcopy(encoder).double()
    for speech in batches:
        exact = speech.whole(exact_encoder, chunk_frames)
        streamed = speech.streamed(graph.encoder, chunk_frames)
        torch.testing.assert_close(streamed, exact, atol=LOG_PROB_TOLERANCE, rtol=0)
        torch.testing.assert_close(streamed.exp(), exact.exp(), atol=PROBABILITY_TOLERANCE, rtol=0)


@pytest.mark.parametrize("chunk_frames", CHUNKS)
@torch.inference_mode()
def test_streams_in_slots_have_the_log_probs_of_whole_utterances(
    encoder: AnyEncoder, native: LoadedModel, batches: list[Speech], chunk_frames: int
) -> None:
    """The native step adds in float64 where PyTorch's does, and in another order elsewhere, as graphs do."""
    exact_encoder = copy.deepcopy(encoder).double()
    for speech in batches:
        streamed, exact = (
            speech.streamed(InSlots(native.encoder), chunk_frames),
            speech.whole(exact_encoder, chunk_frames),
        )
        torch.testing.assert_close(streamed, exact, atol=STREAMING_TOLERANCE, rtol=0, check_dtype=False)


def transcribe(model: LoadedModel, clips: Sequence[Utterance]) -> list[str]:
    start = Start(partials=False, words=False)
    texts = []
    for clip in clips:
        texts.append(final_text(list(transcribe_file(model, clip.audio, start))))
        release_freed_memory()
    return texts


def test_graph_and_native_step_write_the_text_of_exact_arithmetic(
    encoder: AnyEncoder,
    pytorch: LoadedModel,
    graph: LoadedModel,
    native: LoadedModel,
    clips: list[Utterance],
) -> None:
    exact = replace(pytorch, encoder=ExactEncoder(encoder))
    texts = transcribe(exact, clips)
    assert all(texts)
    assert transcribe(graph, clips) == texts
    assert transcribe(native, clips) == texts


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["dev-librispeech", "dev-l2"])
def test_the_graph_writes_the_text_of_exact_arithmetic_for_every_dev_utterance(
    encoder: AnyEncoder, pytorch: LoadedModel, graph: LoadedModel, shared_data: SharedData, name: str
) -> None:
    """Rounding could exchange two texts only where their scores are closer than it moves them."""
    clips = read_manifest(shared_data(f"data/{name}") / "manifest.jsonl")
    exact = replace(pytorch, encoder=ExactEncoder(encoder))
    assert transcribe(graph, clips) == transcribe(exact, clips)
