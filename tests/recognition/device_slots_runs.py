"""Step streams of changing batches in two kinds of slots, which must agree."""

from __future__ import annotations

import numpy as np
import torch

from streamasr.acoustic.interface import AnyStreamingEncoder, EncoderSlots

SLOTS = 6
BATCHES = ([0], [3, 1], [2, 0, 5], [0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [1, 3], [0, 1, 2, 3, 4, 5])


def largest_difference(
    encoder: AnyStreamingEncoder, n_mels: int, first: EncoderSlots, second: EncoderSlots, *, rounds: int = 1
) -> float:
    """Return the largest difference of the log-probs of streams that begin, go on and end in changing batches."""
    rng, hops, largest = np.random.default_rng(1), encoder.hops_per_chunk, 0.0
    frames = encoder.subsampling * encoder.chunk_frames[-1]
    device = encoder.initial_state(1)[0].device
    for slots in (first, second):
        for slot in range(SLOTS):
            slots.reset(slot)
    for number, batch in enumerate(BATCHES * rounds):
        if number % len(BATCHES) == len(BATCHES) - 2:
            first.reset(batch[0])
            second.reset(batch[0])
        mel_BTM = torch.from_numpy(rng.standard_normal((len(batch), frames, n_mels), dtype=np.float32)).to(
            device
        )
        lengths_B = np.full(len(batch), frames)
        lengths_B[-1] = encoder.subsampling * rng.integers(1, encoder.chunk_frames[-1] + 1)
        advance_B = np.minimum(lengths_B, frames // hops) if hops > 1 else None
        (one_BTV, frames_B), (other_BTV, other_B) = (
            slots.step(batch, mel_BTM, lengths_B, advance_B) for slots in (first, second)
        )
        assert frames_B.tolist() == other_B.tolist()
        assert one_BTV.shape == other_BTV.shape
        for one_TV, other_TV, count in zip(one_BTV, other_BTV, frames_B, strict=True):
            largest = max(largest, float(np.abs(one_TV[:count] - other_TV[:count]).max(initial=0.0)))
    return largest
