"""Choose the precision of a native encoder by measuring how fast this processor computes in each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from streamasr import __version__
from streamasr.acoustic.in_place import instructions, product, supported_precisions
from streamasr.config import Backend, Precision, PrecisionChoice
from streamasr.engine.measurements import cache_file, keep_measurement, read_measurement
from streamasr.processor import processor_name
from streamasr.recognition.backend import uses_native_step
from streamasr.recognition.model import pick_device, resolve_model

_PRODUCT = (32, 512, 2048)
"""Rows, inputs and outputs of the matrix product that is measured: one stream in a layer of en-small."""
_ROUNDS = 5
_WORTHWHILE = 1.2
"""A less exact precision must be this many times as fast as each more exact one."""


def resolve_precision(
    choice: PrecisionChoice, model: str | Path, device: str = "auto", backend: Backend = "auto"
) -> Precision:
    """Return the precision for :func:`~streamasr.recognition.model.load_model` with the same arguments.

    ``auto`` is the precision that :func:`fastest_precision` finds, where the model has a native step, else float32.

    Raises:
        ModelError: as ``load_model``.
        ConfigError: this machine has no such device.
    """
    if choice != "auto":
        return choice
    folder = resolve_model(model)
    if not uses_native_step(folder, pick_device(device), backend):
        return "float32"
    return fastest_precision(cache_file("precision.json"))


def fastest_precision(cache: Path | None) -> Precision:
    """Return the fastest precision of a native encoder here; the more exact one of two about equally fast.

    The measurement takes some hundredths of a second. Its result is kept in ``cache`` for this processor and version;
    a cache that cannot be read or written only costs another measurement.
    """
    key = f"{__version__}, {processor_name()}, {instructions()}"
    with suppress(ValueError, TypeError, KeyError):
        kept = read_measurement(cache, key)
        return fastest({name: float(kept[name]) for name in supported_precisions()})
    seconds = {name: _measure(name) for name in supported_precisions()}
    keep_measurement(cache, key, seconds)
    return fastest(seconds)


def fastest(seconds: Mapping[Precision, float]) -> Precision:
    """Return the fastest of ``seconds`` by precision, where a less exact one must be worth it."""
    best: Precision = "float32"
    for name in supported_precisions():
        if seconds[name] * _WORTHWHILE < seconds[best]:
            best = name
    return best


def _measure(precision: Precision) -> float:
    """Return the shortest time of a product in seconds."""
    run = product(precision, *_PRODUCT)
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
