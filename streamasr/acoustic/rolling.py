"""What every chunked encoder needs: the mask that streaming gives, and tensors that keep the newest frames.

Shape suffixes: B batch, T frames, C cached frames, S both.
"""

from __future__ import annotations

import torch
from torch import Tensor


def streaming_mask(
    lengths_B: Tensor, frames: int, chunk_frames: int | Tensor | None, left_context: int
) -> Tensor:
    """Which frames a frame may look at when streaming: [B, 1, T, T], true where query (row) sees key (column).

    A frame sees its own chunk and ``left_context`` frames before that chunk, nothing beyond its row's length (every
    frame sees itself, so that no row of the softmax is empty). ``chunk_frames=None`` lifts the chunk limits.
    """
    device = lengths_B.device
    time_T = torch.arange(frames, device=device)
    visible = time_T[None, None, :] < lengths_B[:, None, None]
    if chunk_frames is not None:
        chunk_B = torch.as_tensor(chunk_frames, device=device).expand(lengths_B.shape)
        first_BT = torch.div(time_T, chunk_B[:, None], rounding_mode="floor") * chunk_B[:, None]
        key = time_T[None, None, :]
        inside = (key >= first_BT[:, :, None] - left_context) & (
            key < (first_BT + chunk_B[:, None])[:, :, None]
        )
        visible = visible & inside
    return (visible | torch.eye(frames, dtype=torch.bool, device=device)).unsqueeze(1)


def newest(x: Tensor, lengths_B: Tensor, count: int) -> Tensor:
    """The last ``count`` real frames along dim -2 of ``x``, whose rows hold ``count`` old frames, then new ones.

    Of the new frames the first ``lengths_B`` are real.
    """
    new = x.shape[-2] - count
    # Looking at the lengths would stall a GPU, and a graph that is exported is for rows of any lengths.
    if not (x.is_cuda or torch.compiler.is_exporting()) and bool((lengths_B == new).all()):
        return x[..., new:, :]
    index_BC = lengths_B[:, None] + torch.arange(count, device=x.device)
    shape = (x.shape[0],) + (1,) * (x.dim() - 3) + (count, 1)
    return x.gather(-2, index_BC.view(shape).expand(*x.shape[:-2], count, x.shape[-1]))


def cached_mask(cached_B: Tensor, cache: int, fresh_B: Tensor, frames: int) -> Tensor:
    """What a step's queries see of a cache and the fresh frames behind it: [B, 1, 1, cache + frames].

    Of the cache the newest ``cached_B`` frames are real, of the fresh ones the first ``fresh_B``; one of these is
    always seen, so that no row of the softmax is empty.
    """
    age_C = torch.arange(cache, 0, -1, device=cached_B.device)
    fresh_T = torch.arange(frames, device=cached_B.device)
    visible_BS = torch.cat((age_C <= cached_B[:, None], fresh_T < fresh_B[:, None].clamp(min=1)), dim=1)
    return visible_BS[:, None, None, :]
