"""Compare mel frames and log-probs of two models with NeMo's, of both generations, at every look-ahead.

Log-probs agree to 1e-4, mel frames to 1e-5 (docs/nemo.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from streamasr.acoustic import Encoder, build_encoder
from streamasr.cli import main
from streamasr.config import FastConformerEncoderConfig
from streamasr.decoding.greedy import greedy_text
from streamasr.evaluation.decoding_pass import Mode, PassCost, decode_files
from streamasr.frontend.pcm import Samples
from streamasr.media.reader import read_audio
from streamasr.nemo.translate import Generation
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.chunking import Chunk, StopMark
from streamasr.recognition.encoder_output import run_streamed, run_whole
from streamasr.recognition.model import LoadedModel
from tests.nemo.conftest import Folders
from tests.recognition.tiny import in_place

TOLERANCE = 1e-4
MEL_TOLERANCE = 1e-5
FILES: dict[Generation, str] = {"current": "{}.npz", "legacy": "{}_nemo240.npz"}
SOUNDS = ("long", "short")

Load = Callable[[str, Generation], LoadedModel]


def sound(nemo_dir: Path, name: str) -> Samples:
    return read_audio(nemo_dir / f"{name}.wav", 16_000)


def chunk_sizes(letter: str) -> tuple[int, ...]:
    return {"A": (14,), "B": (1, 2, 7, 14)}[letter]


@pytest.mark.parametrize("generation", FILES)
@pytest.mark.parametrize("name", SOUNDS)
def test_mel_frames_equal_nemos(nemo_dir: Path, loaded: Load, generation: Generation, name: str) -> None:
    arrays = np.load(nemo_dir / FILES[generation].format("A"))
    frames = int(arrays[f"mel_len_{name}"])
    theirs_TM = arrays[f"mel_{name}"].T[:frames]
    ours_TM = run_whole(loaded("A", generation), sound(nemo_dir, name), 14).mel_TM
    assert ours_TM.shape == theirs_TM.shape
    assert np.abs(ours_TM - theirs_TM).max() <= MEL_TOLERANCE


@pytest.mark.parametrize("generation", FILES)
@pytest.mark.parametrize("letter", "AB")
def test_whole_utterances_equal_nemos_at_every_look_ahead(
    nemo_dir: Path, loaded: Load, letter: str, generation: Generation
) -> None:
    arrays = np.load(nemo_dir / FILES[generation].format(letter))
    model, compared = loaded(letter, generation), 0
    assert model.encoder.chunk_frames == chunk_sizes(letter)
    for chunk_frames in model.encoder.chunk_frames:
        for name in SOUNDS:
            key = f"r{chunk_frames - 1}/offline_logprobs_{name}"
            if key not in arrays:
                continue
            frames = int(arrays[f"r{chunk_frames - 1}/offline_len_{name}"])
            ours_TV = run_whole(model, sound(nemo_dir, name), chunk_frames).log_probs_TV
            assert len(ours_TV) == frames
            assert np.abs(ours_TV - arrays[key][:frames]).max() <= TOLERANCE
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize(
    "flags", [[], ["--latency-ms", "560"], ["--latency-ms", "1040"], ["--latency-ms", "1120"]]
)
def test_offline_logits_equal_nemos_at_that_look_ahead(
    nemo_dir: Path, folders: Folders, tmp_path: Path, flags: list[str]
) -> None:
    """NeMo's look-ahead of 1040 ms is a latency of 1120 ms, the default."""
    out = tmp_path / "whole.npz"
    audio = nemo_dir / "short.wav"
    assert (
        main(["model", "logits", str(folders("B", "current")), str(audio), str(out), "--offline", *flags])
        == 0
    )
    ours_TV = np.load(out)["log_probs"]
    off = {}
    for ahead in (6, 13):
        theirs_TV = np.load(nemo_dir / "B.npz")[f"r{ahead}/offline_logprobs_short"]
        off[ahead] = np.abs(ours_TV - theirs_TV[: len(ours_TV)]).max()
    meant, other = (6, 13) if flags[1:] in (["560"], ["1040"]) else (13, 6)
    assert off[meant] <= TOLERANCE
    assert off[other] > 0.1


def test_evaluated_offline_every_frame_sees_the_whole_utterance(nemo_dir: Path, loaded: Load) -> None:
    """The context is full, unlike in NeMo's offline mode at any look-ahead."""
    model = loaded("B", "current")

    def text(chunk_frames: int | None) -> str:
        passes = decode_files(
            model,
            [nemo_dir / "long.wav"],
            chunk_frames=chunk_frames,
            modes=[Mode.GREEDY],
            batch=1,
            cost=PassCost(),
        )
        return next(passes)[0].text

    def greedy(log_probs_TV: LogProbs) -> str:
        return greedy_text(log_probs_TV.argmax(axis=1).tolist(), model.decoder.beams.tokens)

    samples_S = sound(nemo_dir, "long")
    full = text(None)
    assert full == greedy(run_whole(model, samples_S, None).log_probs_TV)
    arrays = np.load(nemo_dir / "B.npz")
    for chunk_frames in model.encoder.chunk_frames:
        key = f"r{chunk_frames - 1}/offline_"
        nemos = greedy(arrays[f"{key}logprobs_long"][: int(arrays[f"{key}len_long"])])
        assert text(chunk_frames) == nemos
        assert full != nemos


@pytest.mark.parametrize("generation", FILES)
@pytest.mark.parametrize("letter", "AB")
def test_native_streams_equal_nemos_whole_utterances_at_every_look_ahead(
    nemo_dir: Path, loaded: Load, letter: str, generation: Generation
) -> None:
    arrays = np.load(nemo_dir / FILES[generation].format(letter))
    model, compared = in_place(loaded(letter, generation)), 0
    for chunk_frames in model.encoder.chunk_frames:
        for name in SOUNDS:
            key = f"r{chunk_frames - 1}/offline_logprobs_{name}"
            if key not in arrays:
                continue
            frames = int(arrays[f"r{chunk_frames - 1}/offline_len_{name}"])
            streamed = run_streamed(model, sound(nemo_dir, name), chunk_frames, split_seed=chunk_frames)
            assert len(streamed.log_probs_TV) == frames
            assert np.abs(streamed.log_probs_TV - arrays[key][:frames]).max() <= TOLERANCE
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("generation", FILES)
@pytest.mark.parametrize("letter", "AB")
def test_streams_in_random_pieces_equal_whole_utterances(
    nemo_dir: Path, loaded: Load, letter: str, generation: Generation
) -> None:
    model = loaded(letter, generation)
    for seed, chunk_frames in enumerate(model.encoder.chunk_frames):
        for name in SOUNDS:
            samples_S = sound(nemo_dir, name)
            whole = run_whole(model, samples_S, chunk_frames)
            streamed = run_streamed(model, samples_S, chunk_frames, split_seed=seed)
            assert streamed.log_probs_TV.shape == whole.log_probs_TV.shape
            assert np.abs(streamed.log_probs_TV - whole.log_probs_TV).max() <= TOLERANCE
            assert np.abs(streamed.mel_TM - whole.mel_TM).max() <= MEL_TOLERANCE


@pytest.mark.parametrize("native", [False, True], ids=["pytorch", "native"])
@pytest.mark.parametrize("generation", FILES)
def test_streams_in_a_changing_batch_equal_whole_utterances(
    nemo_dir: Path, loaded: Load, generation: Generation, native: bool
) -> None:
    model = in_place(loaded("B", generation)) if native else loaded("B", generation)
    long_S, short_S = (sound(nemo_dir, name) for name in SOUNDS)
    recordings = [long_S, short_S, long_S[5_000:60_001], short_S[:1_279], long_S[:40], short_S[:12_920]]
    for chunk_frames in (2, 14):
        streamed = stream_in_one_batch(model, recordings, chunk_frames, slots=3)
        for samples_S, streamed_TV in zip(recordings, streamed, strict=True):
            whole_TV = run_whole(model, samples_S, chunk_frames).log_probs_TV
            assert streamed_TV.shape == whole_TV.shape
            if len(whole_TV):
                assert np.abs(streamed_TV - whole_TV).max() <= TOLERANCE


def stream_in_one_batch(
    model: LoadedModel, recordings: list[Samples], chunk_frames: int, slots: int
) -> list[LogProbs]:
    """Stream each recording; a free slot gets the next one, and a slot pauses in every third turn."""
    step, waiting = BatchStep(model, slots), list(enumerate(recordings))
    running: dict[int, tuple[int, list[Chunk]]] = {}
    streamed: list[list[LogProbs]] = [[] for _ in recordings]
    turn = 0
    while waiting or running:
        for slot in range(slots):
            if slot not in running and waiting:
                index, samples_S = waiting.pop(0)
                running[slot] = index, chunks_of(model, samples_S, chunk_frames)
        turn += 1
        stepping = [slot for slot in running if (turn + slot) % 3] or list(running)
        work = [(slot, running[slot][1].pop(0)) for slot in stepping]
        for (slot, _), log_probs_TV in zip(work, step.run(work)[0], strict=True):
            streamed[running[slot][0]].append(log_probs_TV)
            if not running[slot][1]:
                del running[slot]
    empty = np.zeros((0, len(model.decoder.beams.tokens)))
    return [np.concatenate([part for part in parts if len(part)] or [empty]) for parts in streamed]


def chunks_of(model: LoadedModel, samples_S: Samples, chunk_frames: int) -> list[Chunk]:
    queue = model.chunk_queue(chunk_frames)
    queue.append(samples_S)
    queue.mark(StopMark())
    chunks = []
    while queue.ready:
        chunks.append(queue.take())
    return chunks


def test_without_input_scaling_log_probs_equal_nemos(nemo_dir: Path, loaded: Load) -> None:
    model = loaded("A", "current")
    assert isinstance(model.config.encoder, FastConformerEncoderConfig)
    config = replace(model.config.encoder, scale_input=False)
    encoder = build_encoder(config, 129).eval().requires_grad_(False)
    assert isinstance(model.encoder, Encoder)
    encoder.load_state_dict(model.encoder.state_dict())
    theirs_TV = np.load(nemo_dir / "A.npz")["noxscale/offline_logprobs_short"]
    ours = run_whole(replace(model, encoder=encoder), sound(nemo_dir, "short"), 14)
    assert np.abs(ours.log_probs_TV - theirs_TV[: len(ours.log_probs_TV)]).max() <= TOLERANCE
