"""Load the decoder of a model folder."""

from __future__ import annotations

from pathlib import Path

from streamasr.config import ModelConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.nbest import HypothesisBuilder
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder

TOKENS_FILE = "tokens.txt"
LM_FILE = "lm.bin"
UNIGRAMS_FILE = "unigrams.txt"


def load_decoder(folder: Path, config: ModelConfig, *, frame_ms: float) -> UtteranceDecoder:
    """Load the decoder of the model in ``folder``; without ``lm.bin`` it has no language model.

    Args:
        folder: holds ``tokens.txt`` and, for a language model, ``lm.bin`` with ``unigrams.txt``.
        config: the folder's configuration.
        frame_ms: length of an encoder frame in milliseconds.

    Raises:
        ModelError: a file is missing or unusable; the message names it.
    """
    tokens = TokenList.load(folder / TOKENS_FILE)
    lm_files = folder / LM_FILE, folder / UNIGRAMS_FILE
    lm = None
    if any(path.exists() for path in lm_files):
        lm = LanguageModel.load(*lm_files, config.decoder)
    return UtteranceDecoder(
        BeamDecoder(tokens, lm, config.decoder, HypothesisBuilder.from_config(config, frame_ms)),
        frame_ms=frame_ms,
        endpointing=config.endpointing,
        stability=config.stability,
    )
