"""Remove noise from recordings with noisereduce: spectral gating that follows the noise level (Sainburg et al. 2020).

Recognition has no such step. Denoise training speech only if the recognised audio is denoised in the same way, or to
clean a corpus to which other noise is added in training. Shape suffix: S samples.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from streamasr.errors import ConfigError

Samples = npt.NDArray[np.float32]

_WINDOW_SECONDS = 0.032
_SHORTEST_SECONDS = 0.25
"""Shorter recordings are not changed, since noise cannot be told from speech in them."""


def denoise(pcm_S: Samples, sample_rate: int, *, strength: float = 0.8) -> Samples:
    """Return a recording with less noise; the length stays the same, and the result is deterministic.

    Args:
        pcm_S: float32 samples of one recording.
        sample_rate: rate of the samples in Hz.
        strength: proportion of the noise to remove, from 0 to 1.

    Raises:
        ConfigError: noisereduce is not installed, or ``strength`` is out of range.
    """
    if not 0.0 <= strength <= 1.0:
        raise ConfigError(f"the strength of denoising must be from 0 to 1, got {strength}")
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
