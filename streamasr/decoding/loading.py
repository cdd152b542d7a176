"""Load the decoder of a model folder."""

from __future__ import annotations

from pathlib import Path

from streamasr.config import ModelConfig, RescoringConfig
from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.language_model import LanguageModel
from streamasr.decoding.nbest import HypothesisBuilder
from streamasr.decoding.neural_lm import NEURAL_LM_FILE, NeuralLanguageModel
from streamasr.decoding.rescoring import Rescorer
from streamasr.decoding.tokens import TokenList
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.errors import ConfigError, ModelError

TOKENS_FILE = "tokens.txt"
LM_FILE = "lm.bin"
UNIGRAMS_FILE = "unigrams.txt"
SPELLED_WORDS = 1_000
"""How many words of a lexicon are looked at for whether the model can spell any."""


def load_decoder(folder: Path, config: ModelConfig, *, frame_ms: float) -> UtteranceDecoder:
    """Load the decoder of the model in ``folder``; without ``lm.bin`` it has no language model.

    Args:
        folder: holds ``tokens.txt`` and, for a language model, ``lm.bin`` with ``unigrams.txt``; and perhaps a neural
            one for finals, ``neural_lm.safetensors``.
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
        _check_spelling(tokens, lm_files[1])
    return UtteranceDecoder(
        BeamDecoder(tokens, lm, config.decoder, HypothesisBuilder.from_config(config, frame_ms)),
        frame_ms=frame_ms,
        endpointing=config.endpointing,
        stability=config.stability,
        rescorer=_load_rescorer(folder / NEURAL_LM_FILE, config.rescoring),
    )


def _load_rescorer(path: Path, config: RescoringConfig) -> Rescorer | None:
    if not config.weight or not path.exists():
        return None
    return Rescorer(NeuralLanguageModel.load(path), config)


def _check_spelling(tokens: TokenList, unigrams_path: Path) -> None:
    """Refuse a lexicon of whose first words the model can spell none, as when they are in upper case."""
    words = unigrams_path.read_text(encoding="utf-8-sig").split()[:SPELLED_WORDS]
    for word in words:
        try:
            spelling = tokens.spell(word)
        except ConfigError:
            continue
        if spelling.replace(" ", "") == word:
            return
    raise ModelError(
        f"{unigrams_path}: the model can spell none of its first {len(words)} words, such as {words[0]!r}; "
        f"expected words in the letters of {TOKENS_FILE}, upper or lower case as there"
    )
