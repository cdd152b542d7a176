"""A small punctuation model with random weights, and text to train on."""

from __future__ import annotations

import numpy as np
import torch

from streamasr.punctuation.model_file import StoredModel
from streamasr.punctuation.network import PunctuationNetwork
from streamasr.punctuation.sizes import NetworkConfig
from streamasr.punctuation.tagger import Tagger
from streamasr.punctuation.training import weights_of

CONFIG = NetworkConfig(word_rows=512, ngram_rows=256, dim=12, hidden=16, layers=2)
VOCABULARY = ["i", "saw", "well", "mcdonald", "where"]
SENTENCES = (
    "I saw Anna at the BBC.",
    "Where is Peter now?",
    "Well, Anna went home.",
    "Did Anna see Mr. McDonald?",
    "Yes, Peter and I saw McDonald in London.",
)


def network(seed: int = 0) -> PunctuationNetwork:
    """Return a network whose scores vary from word to word."""
    torch.manual_seed(seed)
    result = PunctuationNetwork(CONFIG, dropout=0.05)
    with torch.no_grad():
        result.table.mul_(20)
        result.pauses.normal_()
        result.marks.weight.mul_(4)
        result.casings.weight.mul_(4)
    return result.eval()


def tagger(seed: int = 0) -> Tagger:
    """Return a tagger with random decisions of every kind."""
    offsets = np.zeros(4, np.float32), np.zeros(4, np.float32)
    weights = weights_of(network(seed), offsets)
    return Tagger(StoredModel(CONFIG, "en", {"mcdonald": "McDonald"}, VOCABULARY, weights))
