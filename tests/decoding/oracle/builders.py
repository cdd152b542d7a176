"""Build oracle decoders for the small language of :mod:`tests.decoding.synthetic`."""

from __future__ import annotations

import functools

from streamasr.config import DecoderConfig, EndpointConfig
from streamasr.decoding.tokens import TokenList
from tests.decoding.oracle.beam import BeamDecoder
from tests.decoding.oracle.language_model import LanguageModel
from tests.decoding.oracle.utterance import UtteranceDecoder
from tests.decoding.synthetic import FRAME_MS, TOKENS, kenlm_model


@functools.cache
def oracle_lm(config: DecoderConfig, tokens: TokenList = TOKENS) -> LanguageModel:
    """The trigram of the language of ``tokens``, weighted by ``config``."""
    model, unigrams = kenlm_model(tokens)
    return LanguageModel(model, list(unigrams), config)


def oracle_beams(
    config: DecoderConfig | None = None, *, lm: bool = True, tokens: TokenList = TOKENS
) -> BeamDecoder:
    """The oracle of ``synthetic.beam_decoder``."""
    config = config or DecoderConfig()
    return BeamDecoder(tokens, oracle_lm(config, tokens) if lm else None, config)


def oracle_utterances(
    config: DecoderConfig | None = None, *, lm: bool = True, tokens: TokenList = TOKENS
) -> UtteranceDecoder:
    """The oracle of ``synthetic.utterance_decoder``."""
    beams = oracle_beams(config, lm=lm, tokens=tokens)
    return UtteranceDecoder(beams, frame_ms=FRAME_MS, endpointing=EndpointConfig())
