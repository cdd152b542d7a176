"""Score words with an n-gram language model in KenLM's format.

The native core does the work: it weights scores as pyctcdecode's ``LanguageModel`` does, keeps the words in a trie,
and queries KenLM once for each new pair of state and word. One model serves all sessions: queries change only its
caches, whose size is bounded.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable
from pathlib import Path

import kenlm

from streamasr.config import DecoderConfig
from streamasr.decoding import _native
from streamasr.errors import ModelError

logger = logging.getLogger(__name__)

LmState = _native.LmState
"""The words on which the next score depends."""


def weights_of(config: DecoderConfig) -> _native.LmWeights:
    """Return the weights of ``config``."""
    return _native.LmWeights(config.alpha, config.beta, config.unk_score_offset)


class LanguageModel:
    """A KenLM model weighted by ``alpha``, ``beta`` and ``unk_score_offset`` (see :class:`DecoderConfig`).

    Scores are natural logs. ``order`` is the length of the longest n-gram.

    Args:
        model: the n-gram model.
        unigrams: the lexicon: words that take no ``unk_score_offset``. Words that ``model`` lacks are left out.
        config: the weights and the size of the caches.

    Attributes:
        files: the model and the words, if they were read from files.
    """

    files: tuple[Path, Path] | None = None

    def __init__(self, model: kenlm.Model, unigrams: Iterable[str], config: DecoderConfig) -> None:
        start = kenlm.State()
        model.BeginSentenceWrite(start)
        self.native = _native.LanguageModel(
            base_score=model.BaseScore,
            new_state=kenlm.State,
            contains=model.__contains__,
            start=start,
            order=model.order,
            words=[word for word in unigrams if word in model],
            cache_entries=config.lm_cache_entries,
        )
        self._weights = weights_of(config)

    def with_weights(self, config: DecoderConfig) -> LanguageModel:
        """Return the same model with the weights of ``config``; it shares the words and the caches."""
        other = copy.copy(self)
        other._weights = weights_of(config)
        return other

    @classmethod
    def load(cls, model_path: Path, unigrams_path: Path, config: DecoderConfig) -> LanguageModel:
        """Read a KenLM file (binary, or ARPA, which is slow) and its words, one per line.

        The file is read as a whole: of a mapped one, a copy over it would change or end the running process.

        Raises:
            ModelError: a file is missing, empty or of another format, or the two have no word in common; the
                message names the file.
        """
        for path in (model_path, unigrams_path):
            if not path.is_file():
                raise ModelError(
                    f"{path}: no such file; a language model needs {model_path.name} and its words"
                )
        try:
            unigrams = unigrams_path.read_text(encoding="utf-8-sig").split()
        except UnicodeDecodeError as error:
            raise ModelError(f"{unigrams_path}: not UTF-8 ({error})") from None
        if not unigrams:
            raise ModelError(f"{unigrams_path}: empty; expected the language model's words, one a line")
        try:
            reading = kenlm.Config()
            reading.load_method = kenlm.LoadMethod.READ
            model = kenlm.Model(str(model_path), reading)
        except (OSError, RuntimeError) as error:
            raise ModelError(f"{model_path}: not a KenLM model ({error})") from None
        missing = sum(word not in model for word in unigrams)
        if missing == len(unigrams):
            raise ModelError(
                f"{model_path}: has none of the words of {unigrams_path.name}, such as {unigrams[0]!r}; "
                "expected the same spelling, upper or lower case, in both"
            )
        if missing > len(unigrams) / 2:
            logger.warning(
                "%s: lacks %d of the %d words of %s, which count as unknown",
                model_path,
                missing,
                len(unigrams),
                unigrams_path.name,
            )
        lm = cls(model, unigrams, config)
        lm.files = model_path, unigrams_path
        return lm

    @property
    def order(self) -> int:
        """The length of the longest n-gram."""
        return self.native.order

    @property
    def start_state(self) -> LmState:
        """The state at the beginning of a sentence."""
        return self.native.start

    def score(self, state: LmState, word: str) -> tuple[float, LmState]:
        """Return the score of ``word`` after ``state``, and the state after the word."""
        return self.native.score(self._weights, state, word)

    def score_end(self, state: LmState) -> float:
        """Return the score of the end of the sentence after ``state``. It is no word, so ``beta`` is not added."""
        return self.native.score_end(self._weights, state)

    def score_partial(self, part: str) -> float:
        """Return 0 if a word of the lexicon begins with ``part``, else a penalty that grows with its length."""
        return self.native.score_partial(self._weights, part)

    @property
    def cached_entries(self) -> int:
        """Entries in the caches of scores and of out-of-vocabulary words; at most twice ``lm_cache_entries``."""
        return self.native.cached_entries
