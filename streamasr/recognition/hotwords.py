"""Convert the hotwords of a client into the spelling of a model, and explain how each one was read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from streamasr.decoding.hypothesis import Hotword
from streamasr.errors import ConfigError
from streamasr.formatting import FORMATTERS, formatter_for
from streamasr.protocol.messages import HotwordReading, HotwordSpec
from streamasr.recognition.model import LoadedModel
from streamasr.text import join_words, normalise_letters, text_rules

_NAMED = 5
"""Most unusable hotwords that a warning names."""


@dataclass(frozen=True, slots=True)
class ReadHotwords:
    """The hotwords of a ``start`` or ``configure`` message as a model reads them."""

    readings: tuple[HotwordReading, ...]
    """How each one was read, in their order."""
    hotwords: tuple[Hotword, ...]
    """Those that the model can spell."""
    problems: tuple[str, ...]
    """Why the others cannot be used."""

    @property
    def summary(self) -> str:
        """The problems in one line."""
        shown = list(self.problems[:_NAMED])
        if len(self.problems) > _NAMED:
            shown.append(f"and {len(self.problems) - _NAMED} more")
        return "; ".join(shown)


def read_hotwords(specs: Iterable[HotwordSpec], model: LoadedModel) -> ReadHotwords:
    """Convert hotwords into the model's spelling; those without a boost get the model's ``hotword_weight``.

    A text that the model can write as it is stays so. Otherwise digits, abbreviations and symbols are read by the
    rules of the model's language, and the result is normalised like a transcript.
    """
    weight = model.config.decoder.hotword_weight
    readings, hotwords, problems = [], [], []
    for spec in specs:
        try:
            read_as = _spell(spec.text, model)
        except ConfigError as error:
            readings.append(HotwordReading(text=spec.text))
            problems.append(error.message)
            continue
        readings.append(HotwordReading(text=spec.text, read_as=join_words(read_as.split())))
        hotwords.append(Hotword(read_as, weight if spec.boost is None else spec.boost))
    return ReadHotwords(tuple(readings), tuple(hotwords), tuple(problems))


def unused_notice(read: ReadHotwords) -> str | None:
    """Return the text of a warning that names the hotwords of a new session that are not used, if there are any."""
    return f"these hotwords are not used: {read.summary}" if read.problems else None


def _spell(text: str, model: LoadedModel) -> str:
    """Return ``text`` in the model's spelling.

    Raises:
        ConfigError: it has no letter, or one that the model cannot write.
    """
    tokens = model.decoder.beams.tokens
    last = ""
    for candidate in _candidates(text, model.config.language):
        if tokens.can_spell(candidate):
            return tokens.spell(candidate)
        last = candidate
    if not any(map(str.isalnum, last)):
        raise ConfigError(f"{text!r} has no letter that this model can write")
    return tokens.spell(last)


def _candidates(text: str, language: str) -> Iterator[str]:
    """Yield ways to write ``text``, from the closest one to the normalised one."""
    rules = text_rules(language)
    yield unicodedata.normalize("NFC", text.strip())
    # Soft hyphens and zero-width characters come along when a name is copied from a page.
    text = "".join(char for char in text if unicodedata.category(char) != "Cf")
    if rules.language in FORMATTERS:
        text = formatter_for(rules.language).read(text)
    yield normalise_letters(text, keep_case=True)
    yield normalise_letters(text)
    normalised = rules.normalise(text)
    yield normalised.upper()
    yield normalised
