"""Encode mel frames with the cache-aware streaming FastConformer (Rekesh et al. 2023, Noroozi et al. 2024).

NeMo's checkpoints run with their own weights, see docs/nemo.md. Keys and values are cached instead of the layers'
inputs. The contribution of positions to the attention scores is computed once for each step size.

Shape suffixes: B batch, T frames, M mel bands, D model width, L layers, H heads, K head width, C cached frames,
N distances, X the stem's carried frames, V tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from streamasr.acoustic.base import Encoded, Encoder
from streamasr.acoustic.fastconformer.layers import Block, distance_sinusoids
from streamasr.acoustic.fastconformer.stem import Stem
from streamasr.acoustic.interface import StepOutput
from streamasr.acoustic.rolling import cached_mask, newest, streaming_mask
from streamasr.config import FastConformerEncoderConfig


class FastConformerState(NamedTuple):
    """A stream's state. Batch is dim 0 of every leaf."""

    stem_tail_BX: Tensor
    """The frame that each stage of the stem carries."""
    keys_BLHCK: Tensor
    values_BLHCK: Tensor
    """The left context of every layer, newest last."""
    conv_tail_BLCD: Tensor
    """The newest inputs of every layer's convolution."""
    cached_B: Tensor
    """How many cached keys are valid; 0 only before a stream's first frame."""


class _PositionKeys(NamedTuple):
    """The cache of :meth:`FastConformerEncoder.position_keys`."""

    made_from: object
    """Identifies the weights that it was computed from."""
    frames: int
    """Encoder frames of the largest step that it covers."""
    keys_LHNK: Tensor


class FastConformerEncoder(Encoder[FastConformerState]):
    """Implements :class:`streamasr.acoustic.interface.StreamingEncoder`.

    Args:
        config: sizes and chunking.
        vocab_size: tokens V, the blank included.
    """

    config: FastConformerEncoderConfig

    def __init__(self, config: FastConformerEncoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.config = config
        self.stem = Stem(config)
        self.stem_dropout = nn.Dropout(config.dropout)
        self.scale = math.sqrt(config.dim) if config.scale_input else 1.0
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.dim, vocab_size)
        self._positions: _PositionKeys | None = None

    @property
    def layers(self) -> tuple[Block, ...]:
        """The layers, bottom first."""
        return tuple(block for block in self.blocks if isinstance(block, Block))

    @property
    def stem_modules(self) -> tuple[nn.Module, ...]:
        """See :class:`Encoder`."""
        return (self.stem,)

    def initial_state(self, batch: int) -> FastConformerState:
        """The state of ``batch`` new streams; see the Protocol."""
        c, like = self.config, self.head.weight
        cache = (batch, c.layers, c.heads, c.left_context_frames, c.dim // c.heads)
        return FastConformerState(
            stem_tail_BX=like.new_zeros(batch, sum(self.stem.tail_sizes)),
            keys_BLHCK=like.new_zeros(cache),
            values_BLHCK=like.new_zeros(cache),
            conv_tail_BLCD=like.new_zeros(batch, c.layers, c.conv_kernel - 1, c.dim),
            cached_B=torch.zeros(batch, dtype=torch.long, device=like.device),
        )

    def step(
        self,
        state: FastConformerState,
        mel_BTM: Tensor,
        lengths_B: Tensor,
        advance_B: Tensor | None = None,
    ) -> StepOutput[FastConformerState]:
        """Encode one chunk of each stream; see the Protocol."""
        assert advance_B is None, (
            "FastConformer has no look-ahead: its convolutions carry the newest frames of whole chunks"
        )
        return self.advance(
            state, mel_BTM, lengths_B, self.position_keys(mel_BTM.shape[1] // self.subsampling)
        )

    def advance(
        self, state: FastConformerState, mel_BTM: Tensor, lengths_B: Tensor, positions_LHNK: Tensor
    ) -> StepOutput[FastConformerState]:
        """:meth:`step` with the position keys as an argument (see :meth:`position_keys`), for the ONNX export."""
        C = self.config.left_context_frames
        first_B = (state.cached_B == 0) * self.left_padding_frames
        frames_B = (lengths_B + self.subsampling - 1) // self.subsampling * (lengths_B > first_B)
        x_BTD, stem_inputs = self.stem(mel_BTM, first_B, lengths_B, state.stem_tail_BX)
        x_BTD = x_BTD * self.scale
        visible_BHTS = cached_mask(state.cached_B, C, frames_B, x_BTD.shape[1])

        keys, values, conv_tails = [], [], []
        for layer, block in enumerate(self.layers):
            x_BTD, q_BHTK, k_BHTK, v_BHTK = block.enter(x_BTD)
            k_BHSK = torch.cat((state.keys_BLHCK[:, layer], k_BHTK), dim=2)
            v_BHSK = torch.cat((state.values_BLHCK[:, layer], v_BHTK), dim=2)
            attended_BTD = block.attention.attend(q_BHTK, k_BHSK, v_BHSK, positions_LHNK[layer], visible_BHTS)
            x_BTD, conv_input_BTD = block.leave(x_BTD, attended_BTD, state.conv_tail_BLCD[:, layer])
            keys.append(newest(k_BHSK, frames_B, C))
            values.append(newest(v_BHSK, frames_B, C))
            conv_tails.append(newest(conv_input_BTD, frames_B, block.conv_tail))
        new_state = FastConformerState(
            stem_tail_BX=self.stem.tails(stem_inputs),
            keys_BLHCK=torch.stack(keys, dim=1),
            values_BLHCK=torch.stack(values, dim=1),
            conv_tail_BLCD=torch.stack(conv_tails, dim=1),
            cached_B=(state.cached_B + frames_B).clamp(max=C),
        )
        return StepOutput(new_state, self.log_probs(x_BTD), frames_B)

    def position_keys(self, frames: int) -> Tensor:
        """The position keys of a step of ``frames`` encoder frames: [L, H, N, K] with N = C + 2 T - 1.

        They are computed once, for the largest step, and cached until the weights change.
        """
        weights = [block.attention.position.weight for block in self.layers]
        made_from = [(weight.data_ptr(), weight._version, weight.dtype) for weight in weights]
        kept = self._positions
        if kept is None or kept.made_from != made_from or kept.frames < frames:
            largest = max(frames, self.chunk_frames[-1])
            # Not an inference tensor, even if the first call is in inference mode: training may use it later.
            with torch.inference_mode(False), torch.no_grad():
                distances_ND = self._distances(self.config.left_context_frames + largest - 1, 1 - largest)
                keys = [block.attention.position_keys(distances_ND) for block in self.layers]
                kept = self._positions = _PositionKeys(made_from, largest, torch.stack(keys))
        spare = kept.frames - frames
        return kept.keys_LHNK[:, :, spare : kept.keys_LHNK.shape[2] - spare]

    def encode(
        self,
        mel_BTM: Tensor,
        lengths_B: Tensor,
        chunk_frames: int | Tensor | None,
        position_B: Tensor | None = None,  # noqa: ARG002 - positions are relative
        *,
        tap_layer: int | None = None,
        checkpoint_layers: bool = False,
    ) -> Encoded:
        """Compute hidden states of whole utterances under the streaming mask; see :class:`Encoder`."""
        x_BTD, frames_B = self._whole_stem(mel_BTM, lengths_B)
        x_BTD = self.stem_dropout(x_BTD * self.scale)
        T = x_BTD.shape[1]
        distances_ND = self._distances(T - 1, 1 - T)
        visible_BHTS = streaming_mask(frames_B, T, chunk_frames, self.config.left_context_frames)
        tapped_BTD = None
        for layer, block in enumerate(self.layers, 1):
            if checkpoint_layers:
                x_BTD = checkpoint(block, x_BTD, distances_ND, visible_BHTS, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, distances_ND, visible_BHTS)
            if layer == tap_layer:
                tapped_BTD = x_BTD
        return Encoded(x_BTD, frames_B, tapped_BTD)

    def _whole_stem(self, mel_BTM: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
        """The stem's output for whole utterances, and the valid frames of each row."""
        padding, B = self.left_padding_frames, mel_BTM.shape[0]
        missing = -(mel_BTM.shape[1] + padding) % self.subsampling
        mel_BTM = nn.functional.pad(mel_BTM, (0, 0, padding, missing))
        frames_B = (lengths_B + padding + self.subsampling - 1) // self.subsampling * (lengths_B > 0)
        first_B = torch.full_like(lengths_B, padding)
        silence_BX = mel_BTM.new_zeros(B, sum(self.stem.tail_sizes))
        x_BTD, _ = self.stem(mel_BTM, first_B, lengths_B + padding, silence_BX)
        return x_BTD, frames_B

    def _distances(self, first: int, last: int) -> Tensor:
        return distance_sinusoids(first, last, self.head.weight, self.config.dim)
