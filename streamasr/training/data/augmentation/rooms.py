"""Simulate the impulse responses of random rooms with the image source method, and add reverberation to audio.

The simulator is pyroomacoustics (Scheibler et al. 2018), after Allen and Berkley 1979. Simulating a bank of rooms can
take minutes, so banks are kept in files. Shape suffixes: S samples, K rooms, R samples of one response.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamasr.errors import ConfigError, DataError
from streamasr.training.data.audio.processes import Progress, map_in_processes

Samples = npt.NDArray[np.float32]

_MARGIN_M = 0.4
"""Least distance of talkers and microphones from the walls."""
_NEAREST_M = 0.3
"""Least distance between talker and microphone."""
_HIGHEST_MICROPHONE_M = 1.8
_MOUTH_M = (1.1, 1.8)
"""Lowest and highest mouth, of sitting and standing talkers."""
_FLOOR_DB = -60.0
"""A response is cut where the remaining share of its energy is below this level."""
_DRAWS = 1_000
"""Most tries to draw a room that can be simulated."""
ONSET_SAMPLES = 8
"""Samples before the direct sound, for the rise of its interpolation filter: half a millisecond at 16 kHz."""
_FORMAT = 1
"""Part of the cache key; raise it when the simulated responses change."""


@dataclass(frozen=True, kw_only=True)
class RoomOptions:
    """The rooms of a bank; ranges are lowest and highest values, from which rooms are drawn uniformly."""

    rooms: int = 200
    """Number of impulse responses; each has its own room, talker and microphone."""
    rt60_seconds: tuple[float, float] = (0.15, 0.7)
    """Range of the reverberation time, in which sound decays by 60 dB, by Sabine's formula."""
    length_m: tuple[float, float] = (3.0, 10.0)
    width_m: tuple[float, float] = (2.5, 8.0)
    height_m: tuple[float, float] = (2.3, 4.0)
    max_order: int = 60
    """Highest order of simulated reflections. Rooms that need a higher one (small rooms with hard walls) are drawn
    again, because with fewer reflections their reverberation would be too short."""
    sample_rate: int = 16_000
    """Sample rate in Hz."""

    def __post_init__(self) -> None:
        for name in ("rooms", "max_order", "sample_rate"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("rt60_seconds", "length_m", "width_m", "height_m"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(
                    f"{name} must be a lowest and a highest value above 0, got {low} and {high}"
                )
        smallest = 2 * _MARGIN_M + _NEAREST_M
        if min(self.length_m[0], self.width_m[0]) < smallest or self.height_m[0] < _MOUTH_M[1] + _MARGIN_M:
            raise ConfigError(
                f"rooms must be at least {smallest:g} m long and wide and {_MOUTH_M[1] + _MARGIN_M:g} m high"
            )


@dataclass(frozen=True, slots=True)
class RoomBank:
    """Impulse responses of random rooms, concatenated."""

    samples: Samples
    offsets: npt.NDArray[np.int64]
    """Response ``i`` is ``samples[offsets[i]:offsets[i + 1]]``."""
    rt60_seconds: Samples
    """Reverberation time that was drawn for each response."""
    distance_m: Samples
    """Distance between mouth and microphone for each response."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Samples:
        """Return the response [R] of room ``index``, with the direct sound at :data:`ONSET_SAMPLES` and energy 1."""
        return self.samples[self.offsets[index] : self.offsets[index + 1]]

    def padded(self) -> Samples:
        """Return all responses [K, R], zero-padded to the longest."""
        lengths = np.diff(self.offsets)
        rooms_KR = np.zeros((len(self), int(lengths.max(initial=0))), dtype=np.float32)
        for number, length in enumerate(lengths):
            rooms_KR[number, :length] = self[number]
        return rooms_KR

    def draw(self, generator: np.random.Generator) -> Samples:
        """Return the response of a random room."""
        return self[int(generator.integers(len(self)))]


def load_rooms(
    options: RoomOptions,
    seed: int,
    cache: Path,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> RoomBank:
    """Load a bank of rooms from the cache, or simulate it and store it there.

    Args:
        options: the rooms.
        seed: seed of the rooms; room ``i`` does not depend on the number of rooms.
        cache: folder of the files.
        workers: processes that simulate; by default one for each CPU that this process may use.
        progress: called after each simulated room.

    Raises:
        ConfigError: pyroomacoustics is not installed, or almost no rooms in the ranges can be simulated.
        DataError: the cached file is damaged.
    """
    key = json.dumps([_FORMAT, seed, asdict(options)])
    path = cache / f"rooms-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npz"
    if path.exists():
        try:
            with np.load(path) as stored:
                return RoomBank(*(stored[name] for name in RoomBank.__slots__))
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{path}: not a bank of rooms ({error}); delete the file, and it is made again"
            ) from None
    bank = simulate_rooms(options, seed, workers=workers, progress=progress)
    cache.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, **{name: getattr(bank, name) for name in RoomBank.__slots__})
    partial.replace(path)
    return bank


def simulate_rooms(
    options: RoomOptions, seed: int, *, workers: int | None = None, progress: Progress | None = None
) -> RoomBank:
    """Draw and simulate ``options.rooms`` rooms; see :func:`load_rooms`."""
    tasks = [(options, seed, number) for number in range(options.rooms)]
    simulated = list(map_in_processes(_simulate, tasks, workers=workers, few=8, progress=progress))
    responses = [response_R for response_R, _, _ in simulated]
    return RoomBank(
        np.concatenate(responses),
        np.cumsum([0, *map(len, responses)], dtype=np.int64),
        np.array([rt60 for _, rt60, _ in simulated], dtype=np.float32),
        np.array([distance for _, _, distance in simulated], dtype=np.float32),
    )


def reverberate(pcm_S: Samples, response_R: Samples) -> Samples:
    """Add the reverberation of a room to ``pcm_S``, keeping its length, its timing and its loudness (RMS).

    Args:
        pcm_S: float32 samples in -1..1, at the rate of the bank. The result can slightly exceed this range.
        response_R: impulse response of the room.
    """
    if not len(pcm_S):
        return pcm_S
    size = _fast_size(len(pcm_S) + len(response_R) - 1)
    wet_S = np.fft.irfft(np.fft.rfft(pcm_S, size) * np.fft.rfft(response_R, size), size)[: len(pcm_S)]
    power = float(np.square(wet_S).mean())
    if power > 0:
        wet_S *= math.sqrt(float(np.square(pcm_S, dtype=np.float64).mean()) / power)
    return wet_S.astype(np.float32)


def _fast_size(size: int) -> int:
    """Return the next size with only small prime factors: a number up to 16 times a power of two."""
    step = 1 << max(0, size.bit_length() - 4)
    return -(-size // step) * step


def _simulate(task: tuple[RoomOptions, int, int]) -> tuple[Samples, float, float]:
    """Draw and simulate a room; return its response [R], RT60 in seconds and distance in metres."""
    try:
        import pyroomacoustics
    except ImportError:
        raise ConfigError("simulated rooms need pyroomacoustics: pip install 'streamasr[train]'") from None
    options, seed, number = task
    generator = np.random.default_rng((seed, number))
    for _ in range(_DRAWS):
        size_m = [generator.uniform(*span) for span in (options.length_m, options.width_m, options.height_m)]
        rt60 = generator.uniform(*options.rt60_seconds)
        try:
            absorption, order = pyroomacoustics.inverse_sabine(rt60, size_m)
        except ValueError:  # Even walls that absorb all sound would give a longer reverberation time.
            continue
        if order <= options.max_order:
            break
    else:
        raise ConfigError(
            f"no room within the ranges has an RT60 of {options.rt60_seconds} s with reflections up to order "
            f"{options.max_order}: raise max_order, widen the ranges, or use a shorter reverberation time"
        )
    mouth_m, microphone_m = _positions(size_m, generator)
    room = pyroomacoustics.ShoeBox(
        size_m,
        fs=options.sample_rate,
        materials=pyroomacoustics.Material(absorption),
        max_order=order,
    )
    room.add_source(mouth_m)
    room.add_microphone(microphone_m)
    room.compute_rir()
    distance = math.dist(mouth_m, microphone_m)
    response_R = np.asarray(room.rir[0][0], dtype=np.float64)
    filter_delay = int(pyroomacoustics.constants.get("frac_delay_length")) // 2
    direct = filter_delay + round(distance / room.c * options.sample_rate)
    return _trimmed(response_R[direct - ONSET_SAMPLES :]), rt60, distance


def _positions(size_m: Sequence[float], generator: np.random.Generator) -> tuple[list[float], list[float]]:
    """Draw positions for mouth and microphone, away from the walls and from each other."""
    length, width, height = size_m
    while True:
        flat = [
            [generator.uniform(_MARGIN_M, side - _MARGIN_M) for side in (length, width)] for _ in range(2)
        ]
        mouth = [*flat[0], generator.uniform(*_MOUTH_M)]
        highest = min(_HIGHEST_MICROPHONE_M, height - _MARGIN_M)
        microphone = [*flat[1], generator.uniform(_MARGIN_M, highest)]
        if math.dist(mouth, microphone) >= _NEAREST_M:
            return mouth, microphone


def _trimmed(response_R: npt.NDArray[np.float64]) -> Samples:
    """Cut the inaudible tail of a response and scale its energy to 1."""
    energy_R = np.cumsum(np.square(response_R)[::-1])[::-1]  # Schroeder's backward integral
    audible = int(np.count_nonzero(energy_R > energy_R[0] * 10 ** (_FLOOR_DB / 10)))
    return (response_R[:audible] / math.sqrt(energy_R[0])).astype(np.float32)
