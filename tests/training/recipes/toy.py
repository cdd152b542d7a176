"""Provide speech and a model for runs of seconds: eSpeak speaks a few sentences, and a toy model memorises them."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from typing import Any

import espeakng_loader
import numpy as np
import numpy.typing as npt

from streamasr.config import FrontendConfig, WhisperEncoderConfig
from streamasr.training.config import AugmentConfig, LossConfig, OptimConfig, TrainConfig


class Voice:
    """An eSpeak voice.

    Args:
        language: name of the voice, such as ``cmn`` or ``en``.
    """

    def __init__(self, language: str) -> None:
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        callback = ctypes.CFUNCTYPE(
            ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
        )
        self._blocks: list[npt.NDArray[np.int16]] = []
        self._keep = callback(self._collect)
        synchronous = 2
        data = espeakng_loader.get_data_path().encode()
        self.rate = self._library.espeak_Initialize(synchronous, 0, data, 0)
        self._library.espeak_SetSynthCallback(self._keep)
        assert self._library.espeak_SetVoiceByName(language.encode()) == 0

    def synthesise(self, text: str) -> npt.NDArray[np.int16]:
        """Return ``text`` as samples at ``rate`` Hz."""
        self._blocks.clear()
        letters, utf8 = text.encode() + b"\0", 1
        size = ctypes.c_size_t(len(letters))
        assert self._library.espeak_Synth(letters, size, 0, 0, 0, utf8, None, None) == 0
        return np.concatenate(self._blocks)

    def _collect(self, block: Any, count: int, events: object) -> int:
        if block and count:
            self._blocks.append(np.ctypeslib.as_array(block, (count,)).copy())
        return 0


def tiny(recipe: TrainConfig) -> TrainConfig:
    """Return ``recipe`` with a tiny encoder and without augmentation, for a few utterances."""
    return replace(
        recipe,
        pretrained=None,
        precision="float32",
        evaluate_every_steps=1_000,
        chunk_weights=(1.0,),
        data=replace(recipe.data, row_seconds=3.0, max_gap_seconds=0.3, rows_per_batch=4, workers=0),
        augment=AugmentConfig(
            speeds=(1.0,),
            noise_probability=0.0,
            babble_probability=0.0,
            room_probability=0.0,
            band_probability=0.0,
            level_db=(-3.0, 3.0),
            tilt_db=1.0,
            time_masks_per_second=0.0,
            frequency_masks=0,
        ),
        loss=LossConfig(consistency=0.0),
        optim=OptimConfig(
            steps=300,
            learning_rate=4e-3,
            layer_decay=1.0,
            head_factor=3.0,
            freeze_encoder_steps=30,
            warmup_steps=20,
            train_stem=True,
            ema_decay=0.95,
        ),
        frontend=FrontendConfig(n_mels=40),
        encoder=WhisperEncoderConfig(
            n_mels=40, dim=64, heads=4, layers=1, left_context_frames=32, chunk_frames=(16,)
        ),
    )
