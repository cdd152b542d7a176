"""Write a model folder with random weights, to measure the speed of a size for which there is no model."""

from __future__ import annotations

from pathlib import Path

import torch
from encoder_cost import SIZES, VOCABULARY, build

from streamasr.acoustic import save_encoder
from streamasr.acoustic.onnx.export import write_graph
from streamasr.acoustic.onnx.graph import trace
from streamasr.config import FastConformerEncoderConfig, FrontendConfig, ModelConfig, NemoFrontendConfig
from streamasr.decoding.loading import TOKENS_FILE
from streamasr.decoding.tokens import BLANK, WORD_START, TokenList
from streamasr.recognition.backend import GRAPH_FILE, WEIGHTS_FILE
from streamasr.recognition.model import CONFIG_FILE
from streamasr.toml import to_toml

BLANK_BIAS = 6.0
"""Added to the blank's logit: as with a trained model, most frames are blank, and the decoder has little to do."""


@torch.inference_mode()
def write_random_model(size: str, folder: Path) -> None:
    """Write a model of one of the ``SIZES``, with its graph for ONNX Runtime, into an existing folder."""
    config = SIZES[size]()
    encoder = build(config)
    encoder.head.bias[0] += BLANK_BIAS
    weights = folder / WEIGHTS_FILE
    save_encoder(encoder, weights)
    is_fastconformer = isinstance(config, FastConformerEncoderConfig)
    frontend = NemoFrontendConfig() if is_fastconformer else FrontendConfig()
    (folder / CONFIG_FILE).write_text(to_toml(ModelConfig(name=size, frontend=frontend, encoder=config)))
    letters = [chr(0x4E00 + number) for number in range(VOCABULARY[config.family] - 1)]
    TokenList((BLANK, *(WORD_START + letter for letter in letters))).save(folder / TOKENS_FILE)
    write_graph(trace(encoder, config.n_mels), encoder, config, weights, folder / GRAPH_FILE, int8=False)
