"""Build attention masks for streaming, and keep the newest frames of a tensor.

Shape suffixes: B batch, T frames, C cached frames, S both.
"""

from __future__ import annotations

import torch
from torch import Tensor


def streaming_mask(
    lengths_B: Tensor, frames: int, chunk_frames: int | Tensor | None, left_context: int
) -> Tensor:
    """The attention mask of streaming: [B, 1, T, T], true where a query (row) sees a key (column).

    A frame sees its own chunk and ``left_context`` frames before it, within its row's length. Every frame sees
    itself, so that no row of the softmax is empty. ``chunk_frames=None`` gives full context.
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
    """The last ``count`` valid frames along dim -2 of ``x``, whose rows hold ``count`` old frames, then new ones.

    The first ``lengths_B`` of the new frames are valid.
    """
    new = x.shape[-2] - count
    # Reading the lengths would synchronise a GPU, and an exported graph is for rows of any lengths.
    if not (x.is_cuda or torch.compiler.is_exporting()) and bool((lengths_B == new).all()):
        return x[..., new:, :]
    index_BC = lengths_B[:, None] + torch.arange(count, device=x.device)
    shape = (x.shape[0],) + (1,) * (x.dim() - 3) + (count, 1)
    return x.gather(-2, index_BC.view(shape).expand(*x.shape[:-2], count, x.shape[-1]))


def cached_mask(cached_B: Tensor, cache: int, fresh_B: Tensor, frames: int) -> Tensor:
    """The mask of a step's queries over the cache and the new frames after it: [B, 1, 1, cache + frames].

    The newest ``cached_B`` frames of the cache are valid, and the first ``fresh_B`` new ones. At least one new frame
    is visible, so that no row of the softmax is empty.
    """
    age_C = torch.arange(cache, 0, -1, device=cached_B.device)
    fresh_T = torch.arange(frames, device=cached_B.device)
    visible_BS = torch.cat((age_C <= cached_B[:, None], fresh_T < fresh_B[:, None].clamp(min=1)), dim=1)
    return visible_BS[:, None, None, :]
