"""Compute mark and case scores for rows of words in PyTorch, for training.

:mod:`streamasr.punctuation.tagger` computes the same for a stream in NumPy. Shape suffixes: B rows, T tokens (words
and boundary tokens), D size of an embedding, H size of a layer, U different words of a batch, F features of a word.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from streamasr.punctuation.base import MARKS
from streamasr.punctuation.labels import Casing
from streamasr.punctuation.sizes import PAUSE_STEPS_MS, NetworkConfig
from streamasr.recurrent.layers import SimpleRecurrentLayer


class PunctuationNetwork(nn.Module):
    """Embeddings of words, a window with look-ahead, recurrent layers, and one output for marks and one for cases."""

    def __init__(self, config: NetworkConfig, dropout: float) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Parameter(torch.randn(config.rows, config.dim) * 0.1)
        self.pauses = nn.Parameter(torch.zeros(len(PAUSE_STEPS_MS), config.dim))
        self.window = nn.Linear(config.window * config.dim, config.hidden)
        self.layers = nn.ModuleList(SimpleRecurrentLayer(config.hidden) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.hidden)
        self.marks = nn.Linear(config.hidden, len(MARKS))
        self.casings = nn.Linear(config.hidden + config.dim, len(Casing))
        self.dropout = nn.Dropout(dropout)

    def embed(self, features_UF: Tensor) -> Tensor:
        """Return embeddings [U, D]: the word's row plus the mean of its n-grams' rows; rows of -1 are absent."""
        word = functional.embedding(features_UF[:, 0], self.table)
        grams_UF = features_UF[:, 1:]
        bags = functional.embedding_bag(
            grams_UF.clamp(min=0), self.table, mode="sum", per_sample_weights=(grams_UF >= 0).to(word.dtype)
        )
        return word + bags / (grams_UF >= 0).sum(1, keepdim=True).clamp(min=1)

    def forward(
        self, embedded_UD: Tensor, ids_BW: Tensor, pauses_BW: Tensor, carries: list[Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return mark scores [B, T, 4], case scores [B, T, 4] and new carries, a [B, H] for each layer.

        Args:
            embedded_UD: from :meth:`embed`.
            ids_BW: rows of ``embedded_UD``: ``left`` tokens before the T tokens, these, and ``look_ahead`` after.
            pauses_BW: steps of the pause before each token from 1, 0 where it is not known.
            carries: of the tokens before, [B, H] for each layer.
        """
        table = torch.cat((torch.zeros_like(self.pauses[:1]), self.pauses))
        x = self.dropout(embedded_UD[ids_BW] + table[pauses_BW])
        length = ids_BW.shape[1] - self.config.window + 1
        windows = torch.cat([x[:, at : at + length] for at in range(self.config.window)], dim=-1)
        h = functional.gelu(self.window(windows), approximate="tanh")
        new_carries = []
        for layer, carry in zip(self.layers, carries, strict=True):
            h, carry = layer(h, carry)  # noqa: PLW2901
            new_carries.append(carry)
        h = self.dropout(self.norm(h))
        own = x[:, self.config.left : self.config.left + length]
        return self.marks(h), self.casings(torch.cat((h, own), dim=-1)), new_carries
