"""Stream speech from tar shards, shuffled and resumable, with a separate part for each reader.

The tar files have webdataset's format and are read with that library. The order of an epoch depends on the
seed and the epoch's number only. Shape suffixes: S samples, C channels.
"""

from __future__ import annotations

import glob
import json
import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from streamasr.errors import ConfigError, DataError
from streamasr.media.reader import read_audio
from streamasr.training.data.shards.packing import COMPRESSED, INDEX
from streamasr.units import ceil_div

Samples = npt.NDArray[np.int16]

PROBLEMS_NAMED = 100
"""Number of different problems that are kept and logged; all problems are counted."""
_log = logging.getLogger(__name__)
_INT16_SCALE = 32_768


class StreamedUtterance(NamedTuple):
    """A decoded utterance: ``samples_S`` at the reader's rate, its transcript, and its position."""

    samples_S: Samples
    text: str
    position: int
    """Number of the utterance in the reader's epoch, unusable ones included. To resume after it, pass
    ``skip = position + 1``."""


@dataclass(frozen=True, slots=True)
class PackedUtterance:
    """An utterance as it is stored in its shard, still compressed."""

    shard: str
    key: str
    audio: bytes = field(repr=False)
    text: str
    samples: int
    """Number of samples at the reader's rate, from the stored metadata; rows are planned with it."""


@dataclass(frozen=True, slots=True)
class ShardProblem:
    """A shard, or an utterance in it, that could not be used."""

    shard: str
    key: str
    """Key of the utterance; empty if the shard itself is broken."""
    reason: str


class ShardedSpeech:
    """One reader's part of a set of shards.

    Each worker of each rank is a reader. If there are at least as many shards as readers, each reader gets whole
    shards, different ones in each epoch. Otherwise each reader reads all shards and takes every
    ``world_size * workers``-th utterance. Either way, each utterance goes to exactly one reader per epoch.

    Args:
        patterns: folders of shards, tar files, or patterns such as ``part-*.tar`` or ``part-{000..127}.tar``.
        sample_rate: rate of the decoded samples in Hz.
        seed: seed of the shuffling.
        shuffle_utterances: size of the shuffle buffer, in compressed utterances; 1 keeps the shards' order.
        rank: rank of this process, below ``world_size``.
        world_size: number of processes that train.
        worker: number of this worker in its process, below ``workers``.
        workers: number of workers per process.
        why_unusable: returns the reason if a transcript cannot be used, else ``None``. An utterance with such a
            transcript is left out, as one that cannot be decoded is.

    Raises:
        ConfigError: a number is out of range, or webdataset is not installed.
        DataError: a pattern matches no shard, or an index cannot be read.
    """

    def __init__(
        self,
        patterns: Sequence[str | Path],
        *,
        sample_rate: int,
        seed: int,
        shuffle_utterances: int = 1_000,
        rank: int = 0,
        world_size: int = 1,
        worker: int = 0,
        workers: int = 1,
        why_unusable: Callable[[str], str | None] | None = None,
    ) -> None:
        if not (0 <= rank < world_size and 0 <= worker < workers):
            raise ConfigError(f"rank {rank} of {world_size}, worker {worker} of {workers}: no such reader")
        if shuffle_utterances < 1:
            raise ConfigError(f"shuffle_utterances must be at least 1, got {shuffle_utterances}")
        self.sample_rate = sample_rate
        self.seed = seed
        self.shuffle_utterances = shuffle_utterances
        self.why_unusable = why_unusable
        self.reader, self.readers = rank * workers + worker, world_size * workers
        self.shards = find_shards(patterns)
        self.problems: list[ShardProblem] = []
        """The first :data:`PROBLEMS_NAMED` different problems so far; each was also logged as a warning."""
        self.problem_count = 0
        """Number of all problems so far; one that recurs in each epoch is counted each time."""
        self._webdataset = _import_webdataset()
        self._expected = _expected_utterances(self.shards)

    def utterances(self, epoch: int, skip: int = 0) -> Iterator[StreamedUtterance]:
        """Yield the reader's utterances of an epoch, decoded; the first ``skip`` are not decoded.

        Utterances that cannot be decoded are counted as problems and left out.

        Raises:
            DataError: no utterance of the epoch can be used.
        """
        usable = skip > 0
        for position, utterance in enumerate(islice(self.packed_utterances(epoch), skip, None), start=skip):
            samples_S = self.decode(utterance)
            if samples_S is not None:
                usable = True
                yield StreamedUtterance(samples_S, utterance.text, position)
        if not usable:
            raise self.nothing_usable()

    def packed_utterances(self, epoch: int) -> Iterator[PackedUtterance]:
        """Yield the reader's utterances of an epoch without decoding them.

        Raises:
            DataError: the epoch has no usable utterance for this reader.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        shards = [self.shards[number] for number in order]
        if len(shards) >= self.readers:
            packed = self._read(shards[self.reader :: self.readers])
        else:
            packed = islice(self._read(shards), self.reader, None, self.readers)
        buffer, rng = self.shuffle_utterances, random.Random(f"{self.seed} {epoch} {self.reader}")
        shuffle = self._webdataset.filters.shuffle(buffer, initial=buffer, rng=rng)
        empty = True
        for utterance in shuffle(packed):
            empty = False
            yield utterance
        if empty:
            raise self.nothing_usable()

    def decode(self, utterance: PackedUtterance) -> Samples | None:
        """Decode an utterance to exactly ``utterance.samples`` samples.

        Returns:
            Mono int16 samples at the reader's rate; ``None`` if the audio cannot be decoded, which is counted as a
            problem.
        """
        try:
            resampled_S = read_audio(utterance.audio, self.sample_rate, utterance.key)
        except DataError as error:
            reason = error.message.removeprefix(f"{utterance.key}: ")
            self._note_problem(utterance.shard, utterance.key, f"audio cannot be decoded: {reason}")
            return None
        scaled_S = np.clip(np.round(resampled_S * _INT16_SCALE), -_INT16_SCALE, _INT16_SCALE - 1)
        # Metadata and decoder may disagree by a few samples; rows were planned with the metadata.
        samples_S = np.zeros(utterance.samples, dtype=np.int16)
        fitting = min(len(scaled_S), utterance.samples)
        samples_S[:fitting] = scaled_S[:fitting]
        return samples_S

    def nothing_usable(self) -> DataError:
        """Return the error for an epoch without a usable utterance; it names the first problems."""
        named = "; ".join(f"{problem.shard} {problem.key}: {problem.reason}" for problem in self.problems[:3])
        why = f"{self.problem_count} problems: {named}" if named else "there are more readers than utterances"
        return DataError(
            f"no usable utterance for reader {self.reader} of {self.readers} in {len(self.shards)} shards; {why}"
        )

    def _read(self, shards: Sequence[Path]) -> Iterator[PackedUtterance]:
        iterators = self._webdataset.tariterators
        for shard in shards:
            whole = True

            def broken(error: Exception, shard: Path = shard) -> bool:
                nonlocal whole
                if whole:
                    self._note_problem(str(shard), "", f"the tar file is broken: {error.args[0]}")
                whole = False
                return True

            count = 0
            with shard.open("rb") as file:
                files = iterators.tar_file_expander([{"url": str(shard), "stream": file}], handler=broken)
                for sample in iterators.group_by_keys(files, handler=broken):
                    count += 1
                    utterance = self._unpack(str(shard), sample)
                    if utterance is not None:
                        yield utterance
            expected = self._expected.get(shard, count)
            if whole and count < expected:
                self._note_problem(str(shard), "", f"only {count} of {expected} utterances could be read")

    def _unpack(self, shard: str, sample: dict[str, Any]) -> PackedUtterance | None:
        key = str(sample["__key__"])
        audio = next((sample[suffix[1:]] for suffix in COMPRESSED if suffix[1:] in sample), None)
        try:
            described = json.loads(sample["json"])
            text, sample_rate, frames = (described[name] for name in ("text", "sample_rate", "frames"))
            samples = ceil_div(frames * self.sample_rate, sample_rate)
            if not isinstance(text, str):
                raise TypeError
        except (KeyError, ValueError, TypeError, ZeroDivisionError):
            self._note_problem(shard, key, "no usable .json with text, sample_rate and frames")
            return None
        if audio is None:
            self._note_problem(shard, key, f"no audio; expected one of {', '.join(COMPRESSED)}")
            return None
        problem = self.why_unusable(text) if self.why_unusable is not None else None
        if problem is not None:
            self._note_problem(shard, key, problem)
            return None
        return PackedUtterance(shard, key, audio, text, samples)

    def _note_problem(self, shard: str, key: str, reason: str) -> None:
        self.problem_count += 1
        problem = ShardProblem(shard, key, reason)
        if problem in self.problems or len(self.problems) == PROBLEMS_NAMED:
            return
        self.problems.append(problem)
        _log.warning("%s %s: %s; left out", shard, key, reason)
        if len(self.problems) == PROBLEMS_NAMED:
            _log.warning("further problems in shards are counted, not named")


def find_shards(patterns: Sequence[str | Path]) -> list[Path]:
    """Return the tar files that the patterns match, each once, in the order of the patterns.

    Raises:
        DataError: a pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        folder = Path(pattern)
        if folder.is_dir():
            paths = sorted(folder.glob("*.tar"))
        else:
            paths = [Path(name) for braced in _expand(str(pattern)) for name in sorted(glob.glob(braced))]
        if not paths:
            raise DataError(
                f"{pattern}: no shards; expected a folder of .tar files, a .tar file, or a pattern of them"
            )
        found.update(dict.fromkeys(paths))
    return list(found)


def _expand(pattern: str) -> list[str]:
    """Expand braces as a shell does."""
    return list(_import_webdataset().shardlists.braceexpand.braceexpand(pattern))


def _expected_utterances(shards: Sequence[Path]) -> dict[Path, int]:
    """Return the number of utterances of each shard that an index lists; shards made elsewhere may have none."""
    expected = {}
    for folder in {shard.parent for shard in shards}:
        index = folder / INDEX
        if not index.exists():
            continue
        try:
            listed = json.loads(index.read_text(encoding="utf-8"))["shards"]
            expected.update({folder / entry["name"]: int(entry["utterances"]) for entry in listed})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{index}: not an index of shards ({error}); `streamasr data shard` writes it"
            ) from None
    return expected


def _import_webdataset() -> Any:
    try:
        import webdataset
    except ImportError:
        raise ConfigError("shards need webdataset: pip install 'streamasr[train]'") from None
    return webdataset
