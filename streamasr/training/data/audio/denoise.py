"""Optional denoising while speech is decoded: spectral gating by noisereduce (Sainburg et al. 2020), which
follows the level of the noise.

Streaming has no such step: denoise training speech only if what will be heard is denoised in the same way, or
to clean up a corpus to which other noise is then added. Shape suffix: S samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamasr.errors import ConfigError

Samples = npt.NDArray[np.float32]

_WINDOW_SECONDS = 0.032
_SHORTEST_SECONDS = 0.25
"""Shorter sounds are left alone: there is nothing to tell noise from speech by."""


def denoise(pcm_S: Samples, sample_rate: int, *, strength: float = 0.8) -> Samples:
    """``pcm_S`` with its background turned down; as long as before. Nothing is drawn: it is a pure function.

    Args:
        pcm_S: float32 samples of one recording.
        sample_rate: Hz.
        strength: 0..1, by how much of its level what counts as noise is turned down.

    Raises:
        ConfigError: noisereduce is not installed, or the strength is out of range.
    """
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"the strength of denoising must be 0..1, got {strength}")
    try:
        import noisereduce
    except ImportError:
        raise ConfigError("denoising needs noisereduce: pip install 'streamasr[train]'") from None
    if len(pcm_S) < _SHORTEST_SECONDS * sample_rate or not pcm_S.any():
        return pcm_S
    window = round(_WINDOW_SECONDS * sample_rate)
    cleaned_S = noisereduce.reduce_noise(
        pcm_S, sample_rate, stationary=False, prop_decrease=strength, n_fft=window
    )
    return np.asarray(cleaned_S, dtype=np.float32)
