"""Measure how long a step of a model takes on this machine, and keep the result in a file."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamasr import __version__
from streamasr.engine.config import EngineConfig
from streamasr.engine.headroom import Headroom, Load, StepCost
from streamasr.engine.measurements import cache_file, keep_measurement, read_measurement
from streamasr.processor import processor_name, usable_cores
from streamasr.protocol.messages import Start
from streamasr.recognition.batch import BatchStep
from streamasr.recognition.captions import Captioner
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.units import MS_PER_SECOND

_MOST_BATCH = 8
"""Chunks in the largest step that is measured."""
_STEPS = 8
_FEWEST_STEPS = 3
_BUDGET_S = 0.25
"""Steps of each batch size, as many as there is time for."""
_DECODER_SHARE = 0.5
"""The noise leaves everything uncertain: speech takes a decoder about half as long (measured with en-small)."""


class _Clocks(NamedTuple):
    wall: Callable[[], float]
    cpu: Callable[[], float]


_REAL = _Clocks(time.perf_counter, time.process_time)


def measured_headroom(model: LoadedModel, config: EngineConfig) -> Headroom:
    """Return the estimate of how many live sessions fit, from :func:`step_cost`."""
    return Headroom(
        step_cost(model, config),
        default_load(model),
        cores=usable_cores(),
        max_lag_s=config.max_lag_ms / MS_PER_SECOND,
    )


def step_cost(model: LoadedModel, config: EngineConfig) -> StepCost:
    """Return the time of the model's steps here: measured, in about half a second, or from the cache.

    A cache that cannot be read or written only costs another measurement.
    """
    cache = cache_file("step-cost.json")
    key = _key(model, config)
    with suppress(TypeError):
        return StepCost(**read_measurement(cache, key))
    cost = measure_step_cost(model, config)
    keep_measurement(cache, key, asdict(cost))
    return cost


def measure_step_cost(model: LoadedModel, config: EngineConfig, clocks: _Clocks = _REAL) -> StepCost:
    """Measure steps with one chunk and with many, of the default latency, on noise."""
    batch = min(config.max_batch, _MOST_BATCH)
    chunk_frames = default_load(model).chunk_frames
    _measure(model, config, chunk_frames, batch, clocks)  # warm up
    alone, _ = _measure(model, config, chunk_frames, 1, clocks)
    full, cpu = _measure(model, config, chunk_frames, batch, clocks)
    return StepCost(chunk_frames=chunk_frames, batch=batch, alone_s=alone, full_s=max(full, alone), cpu_s=cpu)


def default_load(model: LoadedModel) -> Load:
    """Return what a live session with default options asks of the engine."""
    chunk_frames = resolve_options(Start(), model).chunk_frames
    hop_frames = chunk_frames // model.encoder.hops_per_chunk
    return Load(chunk_frames, hop_frames * model.framing.frame_ms / MS_PER_SECOND)


def _measure(
    model: LoadedModel, config: EngineConfig, chunk_frames: int, batch: int, clocks: _Clocks
) -> tuple[float, float]:
    """Return duration and CPU time of a step with ``batch`` chunks."""
    options = resolve_options(Start(), model)
    step = BatchStep(model, batch)
    queues = [model.chunk_queue(chunk_frames) for _ in range(batch)]
    captioners = [Captioner(model, options) for _ in range(batch)]
    noise_BS = _noise(batch, (_STEPS + 2) * chunk_frames * model.frame_samples)
    for queue, noise_S in zip(queues, noise_BS, strict=True):
        queue.append(noise_S)
    times: list[NDArray[np.float64]] = []
    started_at = clocks.wall()
    while len(times) < _STEPS:
        if len(times) >= _FEWEST_STEPS and clocks.wall() - started_at > _BUDGET_S:
            break
        chunks = [queue.take() for queue in queues]
        moments = [_now(clocks)]
        log_probs, _, lookahead = step.run(list(enumerate(chunks)))
        moments.append(_now(clocks))
        states = [captioner.begin_chunk(chunk) for captioner, chunk in zip(captioners, chunks, strict=True)]
        outcomes = model.decoder.step_all(
            list(zip(states, log_probs, strict=True)), lookahead, threads=config.decoder_threads
        )
        moments.append(_now(clocks))
        for captioner, chunk, outcome in zip(captioners, chunks, outcomes, strict=True):
            captioner.end_chunk(chunk, *outcome)
        times.append(np.diff(np.array(moments), axis=0))
    # The first step fills empty states; the shortest one of the others is the least disturbed by other programs.
    encoder, decoder = np.min(times[1:], axis=0)
    step_s, cpu_s = (encoder + _DECODER_SHARE * decoder).tolist()
    if model.device.type == "cpu":
        # Other programs lengthen a step, but not its CPU time, which threads can only divide among them.
        step_s = min(step_s, cpu_s)
    return step_s, cpu_s


def _now(clocks: _Clocks) -> tuple[float, float]:
    return clocks.wall(), clocks.cpu()


def _noise(batch: int, samples: int) -> NDArray[np.float32]:
    return (0.05 * np.random.default_rng(1).standard_normal((batch, samples))).astype(np.float32)


def _key(model: LoadedModel, config: EngineConfig) -> str:
    """Return what the time depends on."""
    settings = repr((model.config, model.parameters, model.encoder.arithmetic, str(model.device)))
    digest = hashlib.sha256(settings.encode()).hexdigest()[:16]
    threads = f"{usable_cores()} cores, {config.threads} and {config.decoder_threads} threads"
    return f"{__version__}, {processor_name()}, {threads}, batch {config.max_batch}, {digest}"
