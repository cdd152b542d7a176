"""Decode whole utterances with pyctcdecode, as a reference for the project's own decoder.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

import weakref

from streamasr.decoding.beam import BeamDecoder, LogProbs
from streamasr.errors import ConfigError
from streamasr.text import join_words
from streamasr.textfile import read_text


class PyctcdecodeReference:
    """pyctcdecode's beam search with the tokens, language model, widths and weights of ``beams``.

    It has no endpoints: an utterance is one search from the first frame to the last.

    Args:
        beams: the decoder to compare with. Its language model, if it has one, must have been read from files.

    Raises:
        ConfigError: pyctcdecode is not installed, or the language model has no files.
    """

    def __init__(self, beams: BeamDecoder) -> None:
        try:
            from pyctcdecode.decoder import build_ctcdecoder
        except ImportError as error:
            raise ConfigError(
                f'pyctcdecode is not installed ({error}): pip install "streamasr[pyctcdecode]"'
            ) from None
        model_path, unigrams = None, None
        if beams.lm is not None:
            if beams.lm.files is None:
                raise ConfigError(
                    "pyctcdecode needs the language model's files, but it was not read from any"
                )
            model_path, unigrams_path = beams.lm.files
            unigrams = read_text(unigrams_path).split()
        config = beams.config
        self._beams = beams
        self._decoder = build_ctcdecoder(
            beams.tokens.labels,
            None if model_path is None else str(model_path),
            unigrams,
            alpha=config.alpha,
            beta=config.beta,
            unk_score_offset=config.unk_score_offset,
        )
        # pyctcdecode keeps the language model in a class variable until it is cleaned up.
        weakref.finalize(self, self._decoder.cleanup)

    def text(self, log_probs_TV: LogProbs) -> str:
        """Return the best text of an utterance.

        Args:
            log_probs_TV: the model's log-probs, to which the blank penalty is applied as in the own decoder.

        Raises:
            ValueError: the shape is not (frames, tokens), or a value is NaN.
        """
        prepared_TV = self._beams.prepare(log_probs_TV)
        if not len(prepared_TV):
            return ""
        config = self._beams.config
        best, *_ = self._decoder.decode_beams(
            prepared_TV,
            beam_width=config.beam_width,
            beam_prune_logp=config.beam_prune_log_prob,
            token_min_logp=config.token_min_log_prob,
            prune_history=config.prune_history,
        )
        return join_words(str(best[0]).split())
