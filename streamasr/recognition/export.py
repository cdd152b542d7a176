"""Export a model's encoder as an ONNX graph, into its folder or a new one.

Shape suffixes: S samples, T mel frames, M mel bands.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from streamasr.acoustic import Encoder
from streamasr.acoustic.onnx.agreement import Agreement
from streamasr.acoustic.onnx.export import export_encoder
from streamasr.errors import ConfigError, ModelError
from streamasr.frontend.pcm import Samples
from streamasr.recognition.backend import GRAPH_FILE, WEIGHTS_FILE
from streamasr.recognition.model import load_model, resolve_model

_CHECK_SECONDS = 20


def export_model(model: str | Path, out: Path, *, int8: bool = False) -> Agreement:
    """Write the model's encoder as ONNX into the folder ``out``, and compare the two encoders' log-probs.

    A new ``out`` becomes a complete model folder, with copies of the model's other files (without the float32
    weights if the graph is in int8). If ``out`` is the model's folder, only the graph is added.

    Args:
        model: path of a model folder, or name of a packaged model.
        out: the folder to write; created if missing. Nothing is written if the comparison fails.
        int8: whether to quantise the weights to 8 bits.

    Returns:
        How far the log-probs of the graph and the model differ on synthetic sound.

    Raises:
        ModelError: the model is incomplete or cannot be exported, or the graph's log-probs differ too much.
        ConfigError: ``out`` contains something else, or the packages for ONNX are not installed.
    """
    folder = resolve_model(model)
    in_place = out.exists() and out.samefile(folder)
    if not in_place and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: already exists; name a new folder, or the model's own to add {GRAPH_FILE} to it"
        )
    loaded = load_model(folder, "cpu", "torch")
    assert isinstance(loaded.encoder, Encoder)
    rate = loaded.sample_rate
    sound_S = torch.from_numpy(speechlike(_CHECK_SECONDS * rate, rate))
    with torch.inference_mode():
        mel_TM = loaded.frontend(sound_S[None])[0]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder if in_place else out.parent, prefix=".export-") as scratch:
        graph = Path(scratch) / GRAPH_FILE
        weights = folder / WEIGHTS_FILE
        agreement = export_encoder(loaded.encoder, loaded.config.encoder, weights, graph, mel_TM, int8=int8)
        if not in_place:
            _copy_files(folder, out, leave_out=(GRAPH_FILE, WEIGHTS_FILE) if int8 else (GRAPH_FILE,))
        graph.replace(out / GRAPH_FILE)
    return agreement


def speechlike(samples: int, sample_rate: int, seed: int = 0) -> Samples:
    """Return synthetic sound as varied as speech: voices of changing pitch and formants, hiss, and pauses."""
    rng = np.random.default_rng(seed)

    def varying(low: float, high: float, points_per_s: float) -> NDArray[np.float64]:
        count = max(2, round(samples / sample_rate * points_per_s))
        points = rng.uniform(low, high, count)
        return np.interp(np.linspace(0, count - 1, samples), np.arange(count), points)

    phase_S = 2 * np.pi * np.cumsum(varying(90, 250, 3)) / sample_rate
    formants = [varying(low, high, 6) for low, high in ((250, 900), (900, 2_500), (2_500, 3_800))]
    pitch_S = np.gradient(phase_S) * sample_rate / (2 * np.pi)
    voice_S = np.zeros(samples)
    for harmonic in range(1, 24):
        colour_S = sum(np.exp(-(((harmonic * pitch_S - formant_S) / 200) ** 2)) for formant_S in formants)
        voice_S += colour_S * np.sin(harmonic * phase_S)
    loudness_S = varying(-0.6, 1, 9).clip(0)
    hiss_S = rng.standard_normal(samples) * varying(-0.4, 0.4, 7).clip(0)
    sound_S: NDArray[np.float64] = 0.2 * loudness_S * voice_S + 0.2 * hiss_S
    return np.clip(sound_S, -1, 1).astype(np.float32)


def _copy_files(folder: Path, out: Path, leave_out: tuple[str, ...]) -> None:
    out.mkdir(exist_ok=True)
    try:
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.name not in leave_out:
                shutil.copyfile(path, out / path.name)
    except OSError as error:
        raise ModelError(f"{out}: cannot be written: {error}") from None
