"""Compute the mel frames and log-probs of one utterance, as a whole or streamed in chunks.

Shape suffixes: B batch, S samples, T frames, M mel bands, V tokens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.frontend.pcm import Samples
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.chunking import StopMark
from streamasr.recognition.model import LoadedModel


class UtteranceOutput(NamedTuple):
    """The front end's and the encoder's output for one utterance."""

    mel_TM: NDArray[np.float32]
    """The front end's frames."""
    log_probs_TV: NDArray[np.float32]
    """Natural-log token probabilities of the encoder frames."""


@torch.inference_mode()
def run_whole(model: LoadedModel, samples_S: Samples, chunk_frames: int | None) -> UtteranceOutput:
    """Run an utterance in one piece.

    Args:
        model: the model to run.
        samples_S: mono samples at the model's rate.
        chunk_frames: restrict attention as streaming in chunks of this many encoder frames does; with ``None`` every
            frame attends to the whole utterance.
    """
    framing = model.framing
    frames = framing.mel_frames(len(samples_S))
    padded_S = np.pad(samples_S, (0, max(0, frames * framing.hop - len(samples_S))))
    if not frames:
        padded_S = np.zeros(framing.frame_samples, dtype=np.float32)
    device = torch.device(str(model.device))
    samples_B = torch.tensor([len(samples_S)], device=device)
    mel_BTM = model.frontend(torch.from_numpy(padded_S)[None].to(device), samples_B)
    lengths_B = torch.tensor([frames], device=device)
    log_probs_BTV, frames_B = model.encoder.forward(mel_BTM, lengths_B, chunk_frames)
    log_probs_TV = log_probs_BTV[0, : int(frames_B)].float()
    return UtteranceOutput(mel_BTM[0, :frames].cpu().numpy(), log_probs_TV.cpu().numpy())


def run_streamed(
    model: LoadedModel, samples_S: Samples, chunk_frames: int, split_seed: int | None = None
) -> UtteranceOutput:
    """Stream an utterance in chunks.

    Args:
        model: the model to run.
        samples_S: mono samples at the model's rate.
        chunk_frames: encoder frames per chunk.
        split_seed: seed of random lengths in which the samples arrive; ``None`` for all at once. The output does not
            depend on it.
    """
    mels: list[NDArray[np.float32]] = []
    step = BatchStep(model, slots=1, mel_observer=lambda _, mel_TM: mels.append(np.array(mel_TM.cpu())))
    queue = model.chunk_queue(chunk_frames)
    log_probs: list[LogProbs] = []

    def run() -> None:
        while queue.ready:
            log_probs.extend(step.run([(0, queue.take())])[0])

    cuts: list[int] = []
    if split_seed is not None:
        rng = np.random.default_rng(split_seed)
        cuts = np.sort(
            rng.integers(0, len(samples_S) + 1, len(samples_S) // model.frame_samples + 1)
        ).tolist()
    for piece_S in np.split(samples_S, cuts):
        queue.append(piece_S)
        run()
    queue.mark(StopMark())
    run()
    no_mel_TM = np.zeros((0, model.config.frontend.features), dtype=np.float32)
    no_log_probs_TV = np.zeros((0, model.vocab_size), dtype=np.float32)
    return UtteranceOutput(
        np.concatenate([no_mel_TM, *mels]),
        np.concatenate([no_log_probs_TV, *log_probs]).astype(np.float32),
    )
