"""Encode mel frames with Whisper's encoder (Radford et al. 2022), made chunked and causal, with a rolling state.

Three things differ from Whisper, see docs/encoders.md: the convolution stem is causal, attention sees its own chunk
and a limited left context, and the sinusoidal positions repeat. An option merges every two frames into one after
some layers: the layers before are called early here, those after it late. Without merging all layers are late.

Shape suffixes: B batch, T frames, M mel bands, D model width, L layers, H heads, K head width, C cached frames,
E early layers, F frames cached for them, V tokens.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from streamasr.acoustic.attention import attention
from streamasr.acoustic.base import Encoded, Encoder
from streamasr.acoustic.interface import StepOutput
from streamasr.acoustic.openai_whisper import from_openai, is_openai_layout
from streamasr.acoustic.rolling import cached_mask, newest, streaming_mask
from streamasr.config import MERGE_FACTOR, WhisperEncoderConfig

_LONGEST_WAVELENGTH = 10_000.0


class WhisperState(NamedTuple):
    """A stream's state. Batch is dim 0 of every leaf."""

    mel_tail_BTM: Tensor
    """The newest mel frames, which the stem's first convolution still needs."""
    stem_tail_BTD: Tensor
    """The newest frames between the stem's two convolutions."""
    early_keys_BEHFK: Tensor
    early_values_BEHFK: Tensor
    """The left context of every early layer, newest last; twice as many frames as in the late layers."""
    keys_BLHCK: Tensor
    values_BLHCK: Tensor
    """The left context of every late layer."""
    cached_B: Tensor
    """How many of the C cached frames are valid."""
    position_B: Tensor
    """Index of the stem's next frame in the periodic position table."""


def _exact(layer: nn.Conv1d | nn.Linear | nn.LayerNorm, x: Tensor) -> Tensor:
    """Apply ``layer``, summing in float64 in float32 inference.

    With Whisper's weights the later layers amplify the rounding errors of the stem and of the first attention: they
    were most of the log-probs' error, which depends on the order in which a processor adds. With these sums in
    float64, streams and whole utterances agree within 1e-4 on every processor; a step takes 8 % longer.
    """
    if not _sums_exactly(layer, x):
        result: Tensor = layer(x)
        return result
    assert layer.bias is not None
    weight, bias = layer.weight.double(), layer.bias.double()
    if isinstance(layer, nn.Conv1d):
        return F.conv1d(x.double(), weight, bias, layer.stride).float()
    if isinstance(layer, nn.LayerNorm):
        return F.layer_norm(x.double(), layer.normalized_shape, weight, bias, layer.eps).float()
    return F.linear(x.double(), weight, bias).float()


def _sums_exactly(module: nn.Module, x: Tensor) -> bool:
    return not module.training and x.dtype == torch.float32 and not torch.compiler.is_exporting()


class Block(nn.Module):
    """Pre-norm transformer layer. A key bias would cancel in the softmax, so one projection serves all three.

    Args:
        dim: width of its input.
        heads: of its attention.
        exact: compute its attention in float64 in float32 inference, see :func:`_exact`.
    """

    def __init__(self, dim: int, heads: int, *, exact: bool = False) -> None:
        super().__init__()
        self.exact = exact
        self.heads = heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp_in = nn.Linear(dim, 4 * dim)
        self.mlp_out = nn.Linear(4 * dim, dim)

    def forward(self, x_BTD: Tensor, visible: Tensor | None) -> Tensor:
        """Run a whole sequence with the attention mask ``visible``."""
        return self.attend(x_BTD, *self.project(x_BTD), visible)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the layer's input, each [B, H, T, K]."""
        B, T, _ = x_BTD.shape
        qkv = self._apply_layer(self.qkv, self._apply_layer(self.attention_norm, x_BTD)).view(
            B, T, 3, self.heads, -1
        )
        q_BHTK, k_BHTK, v_BHTK = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        return q_BHTK, k_BHTK, v_BHTK

    def attend(
        self, x_BTD: Tensor, q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, visible: Tensor | None
    ) -> Tensor:
        """The layer's output; ``visible`` broadcasts to [B, H, T, S], true where a query sees a key."""
        if self.exact and _sums_exactly(self, q_BHTK):
            context_BHTK = attention(q_BHTK.double(), k_BHSK.double(), v_BHSK.double(), visible).float()
        else:
            context_BHTK = attention(q_BHTK, k_BHSK, v_BHSK, visible)
        x_BTD = x_BTD + self._apply_layer(self.out, context_BHTK.transpose(1, 2).flatten(2))
        mlp_BTD: Tensor = self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(x_BTD))))
        return x_BTD + mlp_BTD

    def _apply_layer(self, layer: nn.Linear | nn.LayerNorm, x_BTD: Tensor) -> Tensor:
        result_BTD: Tensor = _exact(layer, x_BTD) if self.exact else layer(x_BTD)
        return result_BTD


class WhisperEncoder(Encoder[WhisperState]):
    """Implements :class:`streamasr.acoustic.interface.StreamingEncoder`.

    Args:
        config: sizes and chunking.
        vocab_size: tokens V, the blank included.
    """

    config: WhisperEncoderConfig
    positions_PD: Tensor

    def __init__(self, config: WhisperEncoderConfig, vocab_size: int) -> None:
        super().__init__(config, vocab_size)
        self.config = config
        self.conv1 = nn.Conv1d(config.n_mels, config.dim, config.stem_kernel)
        self.conv2 = nn.Conv1d(config.dim, config.dim, config.stem_kernel, stride=config.stem_stride)
        self.stem_tails = (config.stem_kernel - 1, config.stem_kernel - config.stem_stride)
        for conv in (self.conv1, self.conv2):
            # torch's default would leave the output an order of magnitude smaller than the positions added to it.
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        self.blocks = nn.ModuleList(
            Block(config.dim, config.heads, exact=layer == 0) for layer in range(config.layers)
        )
        self.merge = nn.Linear(MERGE_FACTOR * config.dim, config.dim) if config.merge_after_layers else None
        if self.merge is not None:
            # The mean of both frames is closest to the input that pretrained late layers expect.
            with torch.no_grad():
                self.merge.weight.copy_(torch.eye(config.dim).repeat(1, MERGE_FACTOR) / MERGE_FACTOR)
                self.merge.bias.zero_()
        self.final_norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, vocab_size)
        table_PD = periodic_positions(
            config.position_period_frames, config.position_wavelength_frames, config.dim
        )
        self.register_buffer("positions_PD", table_PD, persistent=False)

    def translate_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """See :class:`~streamasr.acoustic.base.Encoder`: OpenAI's weights get this encoder's names."""
        return from_openai(weights, self.config.layers) if is_openai_layout(weights) else weights

    def initial_state(self, batch: int) -> WhisperState:
        """The state of ``batch`` new streams; see the Protocol."""
        c = self.config
        like = self.head.weight
        width, early = c.dim // c.heads, c.merge_after_layers
        early_cache = (batch, early, c.heads, c.left_context_frames * c.merge_frames, width)
        cache = (batch, c.layers - early, c.heads, c.left_context_frames, width)
        return WhisperState(
            mel_tail_BTM=like.new_zeros(batch, self.stem_tails[0], c.n_mels),
            stem_tail_BTD=like.new_zeros(batch, self.stem_tails[1], c.dim),
            early_keys_BEHFK=like.new_zeros(early_cache),
            early_values_BEHFK=like.new_zeros(early_cache),
            keys_BLHCK=like.new_zeros(cache),
            values_BLHCK=like.new_zeros(cache),
            cached_B=torch.zeros(batch, dtype=torch.long, device=like.device),
            position_B=torch.zeros(batch, dtype=torch.long, device=like.device),
        )

    def step(
        self, state: WhisperState, mel_BTM: Tensor, lengths_B: Tensor, advance_B: Tensor | None = None
    ) -> StepOutput[WhisperState]:
        """Encode one chunk of each stream; see the Protocol. ``mel_BTM`` has whole encoder frames."""
        c = self.config
        advance_B = lengths_B if advance_B is None else advance_B
        x_BTD, extended_BTM, middle_BTD = self._stem(mel_BTM, state.mel_tail_BTM, state.stem_tail_BTD)
        x_BTD = x_BTD + self._positions(state.position_B, x_BTD.shape[1])
        stem_frames = _NewFrames(lengths_B // c.stem_stride, advance_B // c.stem_stride)
        new = _NewFrames(lengths_B // c.subsampling, advance_B // c.subsampling)
        early_keys, early_values = state.early_keys_BEHFK, state.early_values_BEHFK
        if self.merge is not None:
            x_BTD, early_keys, early_values = _run_layers(
                self.early, x_BTD, (early_keys, early_values), state.cached_B * c.merge_frames, stem_frames
            )
            x_BTD = self._merge(x_BTD)
        x_BTD, keys, values = _run_layers(
            self.late, x_BTD, (state.keys_BLHCK, state.values_BLHCK), state.cached_B, new
        )
        new_state = WhisperState(
            mel_tail_BTM=newest(extended_BTM, advance_B, self.stem_tails[0]),
            stem_tail_BTD=newest(middle_BTD, advance_B, self.stem_tails[1]),
            early_keys_BEHFK=early_keys,
            early_values_BEHFK=early_values,
            keys_BLHCK=keys,
            values_BLHCK=values,
            cached_B=(state.cached_B + new.kept_B).clamp(max=c.left_context_frames),
            position_B=(state.position_B + stem_frames.kept_B) % c.position_period_frames,
        )
        return StepOutput(new_state, self.log_probs(self.final_norm(x_BTD)), new.kept_B)

    def encode(
        self,
        mel_BTM: Tensor,
        lengths_B: Tensor,
        chunk_frames: int | Tensor | None,
        position_B: Tensor | None = None,
        *,
        tap_layer: int | None = None,
        checkpoint_layers: bool = False,
    ) -> Encoded:
        """Compute hidden states of whole utterances under the streaming mask; see :class:`Encoder`.

        ``mel_BTM`` has whole encoder frames.
        """
        B, _, M = mel_BTM.shape
        mel_tail, stem_tail = self.stem_tails
        x_BTD, _, _ = self._stem(
            mel_BTM,
            mel_BTM.new_zeros(B, mel_tail, M),
            mel_BTM.new_zeros(B, stem_tail, self.config.dim),
        )
        c, T = self.config, x_BTD.shape[1]
        x_BTD = x_BTD + self._positions(torch.zeros_like(lengths_B) if position_B is None else position_B, T)
        frames_B = lengths_B // c.subsampling
        visible_BHTS = streaming_mask(frames_B, T // c.merge_frames, chunk_frames, c.left_context_frames)
        early_BHTS = visible_BHTS
        if self.merge is not None:
            early_chunk = None if chunk_frames is None else chunk_frames * c.merge_frames
            early_left = c.left_context_frames * c.merge_frames
            early_BHTS = streaming_mask(lengths_B // c.stem_stride, T, early_chunk, early_left)
        tapped_BTD = None
        for layer, block in enumerate(self.blocks, 1):
            visible = early_BHTS if layer <= c.merge_after_layers else visible_BHTS
            if checkpoint_layers:
                x_BTD = checkpoint(block, x_BTD, visible, use_reentrant=False)
            else:
                x_BTD = block(x_BTD, visible)
            if layer == c.merge_after_layers:
                x_BTD = self._merge(x_BTD)
            if layer == tap_layer:
                whole_BTD = x_BTD if layer >= c.merge_after_layers else self._merge(x_BTD)
                tapped_BTD = self.final_norm(whole_BTD)
        return Encoded(self.final_norm(x_BTD), frames_B, tapped_BTD)

    def _stem(
        self, mel_BTM: Tensor, mel_tail_BTM: Tensor, stem_tail_BTD: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the stem's output, and the inputs of its two convolutions, carried frames first."""
        extended_BTM = torch.cat((mel_tail_BTM, mel_BTM), dim=1)
        middle_BDT = F.gelu(_exact(self.conv1, extended_BTM.transpose(1, 2)))
        middle_BTD = torch.cat((stem_tail_BTD.to(middle_BDT.dtype), middle_BDT.transpose(1, 2)), dim=1)
        x_BTD = F.gelu(_exact(self.conv2, middle_BTD.transpose(1, 2))).transpose(1, 2)
        return x_BTD, extended_BTM, middle_BTD

    @property
    def stem_modules(self) -> tuple[nn.Module, ...]:
        """See :class:`Encoder`."""
        return self.conv1, self.conv2

    @property
    def early(self) -> nn.ModuleList:
        """The layers before merging."""
        return self.blocks[: self.config.merge_after_layers]

    @property
    def late(self) -> nn.ModuleList:
        """The layers after merging; all layers if nothing is merged."""
        return self.blocks[self.config.merge_after_layers :]

    def _merge(self, x_BTD: Tensor) -> Tensor:
        """Merge every two frames into one."""
        assert self.merge is not None
        merged_BTD: Tensor = self.merge(x_BTD.reshape(x_BTD.shape[0], -1, MERGE_FACTOR * self.config.dim))
        return merged_BTD

    def _positions(self, first_B: Tensor, frames: int) -> Tensor:
        c, table_PD = self.config, self.positions_PD
        if torch.compiler.is_exporting():
            # A graph computes the table when it is loaded; storing it would take megabytes.
            table_PD = periodic_positions(c.position_period_frames, c.position_wavelength_frames, c.dim)
        index_BT = first_B[:, None] + torch.arange(frames, device=first_B.device)
        return table_PD[index_BT % c.position_period_frames]


class _NewFrames(NamedTuple):
    """How many frames of a step are new, in each row."""

    frames_B: Tensor
    kept_B: Tensor
    """How many of them the stream advances by; the rest is look-ahead."""


def _run_layers(
    blocks: nn.ModuleList,
    x_BTD: Tensor,
    cache: tuple[Tensor, Tensor],
    cached_B: Tensor,
    new: _NewFrames,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run new frames through layers with a cache of keys and values [B, L, H, C, K].

    The newest ``cached_B`` frames of the cache are valid. Returns the output, and the cache after this step.
    """
    keys_BLHCK, values_BLHCK = cache
    C = keys_BLHCK.shape[3]
    visible_BHTS = cached_mask(cached_B, C, new.frames_B, x_BTD.shape[1])
    keys, values = [], []
    for layer, block in enumerate(blocks):
        assert isinstance(block, Block)
        q_BHTK, k_BHTK, v_BHTK = block.project(x_BTD)
        k_BHSK = torch.cat((keys_BLHCK[:, layer], k_BHTK), dim=2)
        v_BHSK = torch.cat((values_BLHCK[:, layer], v_BHTK), dim=2)
        x_BTD = block.attend(x_BTD, q_BHTK, k_BHSK, v_BHSK, visible_BHTS)
        keys.append(newest(k_BHSK, new.kept_B, C))
        values.append(newest(v_BHSK, new.kept_B, C))
    return x_BTD, torch.stack(keys, dim=1), torch.stack(values, dim=1)


def periodic_positions(period: int, longest_wavelength: int, dim: int) -> Tensor:
    """Compute Whisper's sinusoids [period, dim], to be repeated endlessly.

    With ``longest_wavelength`` 0 they are Whisper's own (Vaswani et al. 2017, section 3.5), cut after ``period``
    frames, as a pretrained encoder needs them. Otherwise every frequency is rounded to a whole number of turns in
    ``period`` frames, so that the table wraps around without a seam, and longer wavelengths keep their value for
    frame 0: they would encode the position in a recording, which is useless in a stream.
    """
    half = dim // 2
    # Tensors, not numbers: an exported graph would round numbers to float32.
    fall = torch.tensor(-math.log(_LONGEST_WAVELENGTH) / (half - 1), dtype=torch.float64)
    turn = torch.tensor(2 * math.pi, dtype=torch.float64)
    radians_D = torch.exp(fall * torch.arange(half, dtype=torch.float64))
    if longest_wavelength:
        turns_D = torch.round(radians_D * period / turn)
        turns_D = turns_D.where(turn / radians_D <= longest_wavelength, 0.0)
        radians_D = turns_D * (turn / period)
    phase_PD = torch.arange(period, dtype=torch.float64)[:, None] * radians_D
    return torch.cat((phase_PD.sin(), phase_PD.cos()), dim=1).float()
