"""The neural language model in PyTorch, for training.

:mod:`streamasr.decoding.neural_lm` computes the same in NumPy. Shape suffixes: B rows, T words, D size of an
embedding, H size of a layer, W words with the one before them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamasr.decoding.neural_lm import NeuralLmConfig
from streamasr.recurrent.layers import SimpleRecurrentLayer


class NeuralLmNetwork(nn.Module):
    """Embeddings of the last two words, recurrent layers, and a projection back to the size of an embedding."""

    def __init__(self, config: NeuralLmConfig, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.randn(config.words, config.dim) * 0.05)
        self.table_bias = nn.Parameter(torch.zeros(config.words))
        self.input = nn.Linear(2 * config.dim, config.hidden)
        self.layers = nn.ModuleList(SimpleRecurrentLayer(config.hidden) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.output = nn.Linear(config.hidden, config.dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, rows_BW: Tensor, carries: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return what is expected after each word [B, T, D], and the new carries, a [B, H] for each layer.

        The score of a word is the product with its row of ``table``, plus its ``table_bias``.

        Args:
            rows_BW: rows of the word before the T words, then of these.
            carries: of the words before, [B, H] for each layer.
        """
        embedded = self.dropout(functional.embedding(rows_BW, self.table))
        both = torch.cat((embedded[:, 1:], embedded[:, :-1]), dim=-1)
        h = functional.gelu(self.input(both), approximate="tanh")
        new_carries = []
        for layer, carry in zip(self.layers, carries, strict=True):
            h, new_carry = layer(h, carry)
            new_carries.append(new_carry)
            h = self.dropout(h)
        return self.output(self.norm(h)), new_carries

    def initial_carries(self, rows: int) -> list[Tensor]:
        """Return the carries at the beginning of ``rows`` texts."""
        return [torch.zeros(rows, self.config.hidden) for _ in range(self.config.layers)]
