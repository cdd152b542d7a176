"""Compute a Conformer layer (Gulati et al. 2020) with causal convolution and relative positions (Dai et al. 2019).

Shape suffixes: B batch, T frames, S keys (old and new), N distances, D model width, H heads, K head width, C frames
carried by the convolution.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from streamasr.config import FastConformerEncoderConfig

_LONGEST_WAVELENGTH = 10_000.0


class FeedForward(nn.Sequential):
    """Two linear layers with a SiLU between."""

    def __init__(self, config: FastConformerEncoderConfig) -> None:
        inner = config.dim * config.feed_forward_factor
        super().__init__(
            nn.Linear(config.dim, inner, bias=config.bias),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            nn.Linear(inner, config.dim, bias=config.bias),
        )


class Attention(nn.Module):
    """Multi-head attention with relative positional encoding (Dai et al. 2019, section 3.3)."""

    def __init__(self, config: FastConformerEncoderConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        width = config.dim // config.heads
        self.qkv = nn.Linear(config.dim, 3 * config.dim, bias=config.bias)
        self.position = nn.Linear(config.dim, config.dim, bias=False)
        self.content_bias_HK = nn.Parameter(torch.zeros(config.heads, width))
        self.position_bias_HK = nn.Parameter(torch.zeros(config.heads, width))
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)

    def project(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, each [B, H, T, K]."""
        q_BTHK, k_BTHK, v_BTHK = self.qkv(x_BTD).unflatten(2, (3, self.heads, -1)).unbind(2)
        return q_BTHK.transpose(1, 2), k_BTHK.transpose(1, 2), v_BTHK.transpose(1, 2)

    def position_keys(self, distances_ND: Tensor) -> Tensor:
        """Project sinusoids of distances to keys [H, N, K] for the positional part of the scores."""
        keys_NHK: Tensor = self.position(distances_ND).unflatten(1, (self.heads, -1))
        return keys_NHK.transpose(0, 1)

    def attend(
        self, q_BHTK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, positions_HNK: Tensor, visible: Tensor
    ) -> Tensor:
        """The attention's output [B, T, D].

        Args:
            q_BHTK: queries of the newest T of the S frames.
            k_BHSK: keys.
            v_BHSK: values.
            positions_HNK: keys of the distances ``S - 1 … 1 - T``, query minus key.
            visible: broadcasts to [B, H, T, S], true where a query sees a key.
        """
        width = q_BHTK.shape[3]
        q_position_BHTK = q_BHTK + self.position_bias_HK[:, None].to(q_BHTK.dtype)
        scores_BHTN = q_position_BHTK @ positions_HNK.mT.to(q_BHTK.dtype)
        bias_BHTS = relative_shift(scores_BHTN) * width**-0.5
        context_BHTK = F.scaled_dot_product_attention(
            q_BHTK + self.content_bias_HK[:, None].to(q_BHTK.dtype),
            k_BHSK,
            v_BHSK,
            attn_mask=bias_BHTS.masked_fill(~visible, -torch.inf),
            dropout_p=self.dropout if self.training else 0.0,
        )
        attended_BTD: Tensor = self.out(context_BHTK.transpose(1, 2).flatten(2))
        return attended_BTD


class Convolution(nn.Module):
    """Gated pointwise convolution, causal depthwise convolution, layer norm, SiLU, pointwise convolution."""

    def __init__(self, config: FastConformerEncoderConfig) -> None:
        super().__init__()
        self.expand = nn.Linear(config.dim, 2 * config.dim, bias=config.bias)
        self.depthwise = nn.Conv1d(
            config.dim, config.dim, config.conv_kernel, groups=config.dim, bias=config.bias
        )
        self.norm = nn.LayerNorm(config.dim)
        self.out = nn.Linear(config.dim, config.dim, bias=config.bias)

    def forward(self, x_BTD: Tensor, tail_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """Return the module's output, and the depthwise convolution's input, carried frames first."""
        gated_BTD = F.glu(self.expand(x_BTD), dim=-1)
        conv_input_BTD = torch.cat((tail_BCD.to(gated_BTD.dtype), gated_BTD), dim=1)
        mixed_BTD = self.depthwise(conv_input_BTD.transpose(1, 2)).transpose(1, 2)
        return self.out(F.silu(self.norm(mixed_BTD))), conv_input_BTD


class Block(nn.Module):
    """One layer: half a feed-forward step, attention, convolution, another half step, and a norm.

    ``forward`` is for whole utterances; a stream calls :meth:`enter`, the attention and :meth:`leave` itself.
    """

    def __init__(self, config: FastConformerEncoderConfig) -> None:
        super().__init__()
        self.conv_tail = config.conv_kernel - 1
        self.first_norm, self.first = nn.LayerNorm(config.dim), FeedForward(config)
        self.attention_norm, self.attention = nn.LayerNorm(config.dim), Attention(config)
        self.convolution_norm, self.convolution = nn.LayerNorm(config.dim), Convolution(config)
        self.second_norm, self.second = nn.LayerNorm(config.dim), FeedForward(config)
        self.out_norm = nn.LayerNorm(config.dim)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x_BTD: Tensor, distances_ND: Tensor, visible: Tensor) -> Tensor:
        """Run a whole sequence; ``distances_ND`` are those of its T frames, see :meth:`Attention.attend`."""
        x_BTD, q_BHTK, k_BHTK, v_BHTK = self.enter(x_BTD)
        positions_HNK = self.attention.position_keys(distances_ND)
        attended_BTD = self.attention.attend(q_BHTK, k_BHTK, v_BHTK, positions_HNK, visible)
        x_BTD, _ = self.leave(
            x_BTD, attended_BTD, x_BTD.new_zeros(x_BTD.shape[0], self.conv_tail, x_BTD.shape[2])
        )
        return x_BTD

    def enter(self, x_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The part before the attention: returns the residual, queries, keys and values."""
        x_BTD = x_BTD + 0.5 * self.dropout(self.first(self.first_norm(x_BTD)))
        return x_BTD, *self.attention.project(self.attention_norm(x_BTD))

    def leave(self, x_BTD: Tensor, attended_BTD: Tensor, tail_BCD: Tensor) -> tuple[Tensor, Tensor]:
        """The part after the attention: returns the layer's output and the convolution's input."""
        x_BTD = x_BTD + self.dropout(attended_BTD)
        mixed_BTD, conv_input_BTD = self.convolution(self.convolution_norm(x_BTD), tail_BCD)
        x_BTD = x_BTD + self.dropout(mixed_BTD)
        x_BTD = x_BTD + 0.5 * self.dropout(self.second(self.second_norm(x_BTD)))
        return self.out_norm(x_BTD), conv_input_BTD


def relative_shift(scores: Tensor) -> Tensor:
    """Align scores by distance [..., T, N] to keys [..., T, N - T + 1] (Dai et al., appendix B).

    Row ``i`` begins at distance ``T - 1 - i``: in memory, N - 1 numbers after the start of the row before.
    """
    T, N = scores.shape[-2:]
    batch = scores.shape[:-2]
    if torch.compiler.is_exporting():
        shifted = F.pad(scores, (1, 0)).reshape(*batch, N + 1, T)[..., 1:, :]
        return shifted.reshape(*batch, T, N)[..., : N - T + 1]
    rows = scores.reshape(-1, T * N).contiguous()
    aligned = rows.as_strided((len(rows), T, N - T + 1), (T * N, N - 1, 1), rows.storage_offset() + T - 1)
    return aligned.reshape(*batch, T, N - T + 1)


def distance_sinusoids(first: int, last: int, like: Tensor, dim: int) -> Tensor:
    """Compute sinusoids [N, D] of the distances ``first, first - 1 … last``; sine in even columns, cosine in odd."""
    distances_N = torch.arange(first, last - 1, -1, dtype=torch.float64, device=like.device)
    radians_D = torch.exp(
        -math.log(_LONGEST_WAVELENGTH)
        / dim
        * torch.arange(0, dim, 2, dtype=torch.float64, device=like.device)
    )
    phase_ND = distances_N[:, None] * radians_D
    return torch.stack((phase_ND.sin(), phase_ND.cos()), dim=2).flatten(1).to(like.dtype)
