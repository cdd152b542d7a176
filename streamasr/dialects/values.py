"""Read the values of queries and forms that several dialects have in common."""

from __future__ import annotations

from collections.abc import Sequence

from streamasr.dialects.base import RefusedError
from streamasr.protocol.model_info import ModelInfo

_SWITCHES = {"true": True, "1": True, "false": False, "0": False, "": False}
_NAMES = {"english": "en", "chinese": "zh", "german": "de", "french": "fr", "spanish": "es", "japanese": "ja"}
"""Languages that some clients write out."""


def switch(name: str, text: str) -> bool:
    """Return the value of a parameter that is true or false.

    Raises:
        RefusedError: ``text`` is neither.
    """
    value = _SWITCHES.get(text.lower())
    if value is None:
        raise RefusedError(f"{name} must be true or false, got {text!r}", param=name)
    return value


def check_language(text: str, model: ModelInfo) -> None:
    """Check that a client asks for the language of the model, as a code such as ``en`` or ``en-US``, or for none.

    Raises:
        RefusedError: for another language.
    """
    wanted = text.strip().lower()
    base = _NAMES.get(wanted, wanted.replace("_", "-").partition("-")[0])
    if base not in ("", "auto", "multi", model.language.lower().partition("-")[0]):
        message = f"the model {model.name!r} recognises {model.language!r}, not {text!r}"
        raise RefusedError(message, param="language")


def check_languages(texts: Sequence[str], model: ModelInfo) -> None:
    """Check that the language of the model is one of those that a client expects.

    Raises:
        RefusedError: none of ``texts`` is; it is about the first one.
    """
    errors = []
    for text in texts:
        try:
            check_language(text, model)
        except RefusedError as error:
            errors.append(error)
    if errors and len(errors) == len(texts):
        raise errors[0]
