"""Streams speech from shards: shuffled, each reader its own part, resumable. Knows no tokens and no device.

The tar files are webdataset's format and read through that library. An epoch's order is a function of the seed
and the epoch's number alone. Shape suffix: S samples.
"""

from __future__ import annotations

import glob
import io
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
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.frontend.resample import Resampler
from streamasr.training.data.shards.packing import COMPRESSED, INDEX
from streamasr.units import ceil_div

Samples = npt.NDArray[np.int16]

FAULTS_NAMED = 100
"""Faults of which the place and the reason are kept and logged; all are counted."""
_log = logging.getLogger(__name__)
_INT16_SCALE = 32_768


class StreamedUtterance(NamedTuple):
    """``samples_S`` at the reader's rate, what is said in it, and its place in the reader's epoch."""

    samples_S: Samples
    text: str
    position: int
    """Go on behind it with ``skip = position + 1``; utterances that could not be decoded are counted."""


@dataclass(frozen=True, slots=True)
class Member:
    """An utterance as its shard holds it, still compressed."""

    shard: str
    key: str
    audio: bytes = field(repr=False)
    text: str
    samples: int
    """How many samples it will have at the reader's rate, by its header: what rows are planned with."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a shard that could not be used."""

    shard: str
    key: str
    """Of the utterance; empty where the shard itself is broken."""
    reason: str


class ShardedSpeech:
    """One reader's share of a set of shards.

    Readers are the workers of all ranks. With at least as many shards as readers every reader has shards of its own,
    others in every epoch; with fewer, every reader reads all shards and takes every
    ``world_size * workers``-th utterance.
    Either way each utterance comes to exactly one reader in an epoch.

    Args:
        patterns: folders of shards, tar files, or patterns of them (``part-*.tar``, ``part-{000..127}.tar``).
        sample_rate: Hz of the samples wanted.
        seed: of the order.
        shuffle_utterances: size of the shuffle buffer, in (compressed) utterances; 1 keeps the shards' own order.
        rank: this process, of ``world_size``.
        world_size: processes that train.
        worker: this worker of the process, of ``workers``.
        workers: workers of each process.
        fault: why a transcript cannot be used, or ``None``. Such an utterance is left out like a broken one.

    Raises:
        ConfigError: numbers that make no sense, or webdataset is not installed.
        DataError: a pattern names no shard, or an index cannot be read.
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
        fault: Callable[[str], str | None] | None = None,
    ) -> None:
        if not (0 <= rank < world_size and 0 <= worker < workers):
            raise ConfigError(f"rank {rank} of {world_size}, worker {worker} of {workers}: no such reader")
        if shuffle_utterances < 1:
            raise ConfigError(f"shuffle_utterances must be at least 1, got {shuffle_utterances}")
        self.sample_rate = sample_rate
        self.seed = seed
        self.shuffle_utterances = shuffle_utterances
        self.fault_of = fault
        self.reader, self.readers = rank * workers + worker, world_size * workers
        self.shards = find_shards(patterns)
        self.faults: list[Fault] = []
        """The first :data:`FAULTS_NAMED` different faults met so far; each was logged as a warning, too."""
        self.fault_count = 0
        """All of them, in every epoch anew."""
        self._webdataset = _import_webdataset()
        self._expected = _expected_utterances(self.shards)

    def utterances(self, epoch: int, skip: int = 0) -> Iterator[StreamedUtterance]:
        """The reader's utterances of an epoch, decoded; the first ``skip`` are passed over without decoding.

        What cannot be decoded is counted and left out.

        Raises:
            DataError: not one utterance of the epoch can be used.
        """
        usable = skip > 0
        for position, member in enumerate(islice(self.members(epoch), skip, None), start=skip):
            samples_S = self.decode(member)
            if samples_S is not None:
                usable = True
                yield StreamedUtterance(samples_S, member.text, position)
        if not usable:
            raise self.nothing_usable()

    def members(self, epoch: int) -> Iterator[Member]:
        """The reader's utterances of an epoch, not decoded yet.

        Raises:
            DataError: there is none.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards))
        shards = [self.shards[number] for number in order]
        by_shard = len(shards) >= self.readers
        if by_shard:
            members = self._read(shards[self.reader :: self.readers])
        else:
            members = islice(self._read(shards), self.reader, None, self.readers)
        buffer, draw = self.shuffle_utterances, random.Random(f"{self.seed} {epoch} {self.reader}")
        shuffle = self._webdataset.filters.shuffle(buffer, initial=buffer, rng=draw)
        empty = True
        for member in shuffle(members):
            empty = False
            yield member
        if empty:
            raise self.nothing_usable()

    def decode(self, member: Member) -> Samples | None:
        """The samples of a member, exactly ``member.samples`` of them; ``None``, and a fault, if it is broken."""
        try:
            heard_SC, sample_rate = soundfile.read(io.BytesIO(member.audio), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            self._fault(member.shard, member.key, f"audio cannot be decoded: {error}")
            return None
        resampler = Resampler(sample_rate, self.sample_rate)
        heard_S = np.concatenate((resampler.feed(heard_SC.mean(axis=1, dtype=np.float32)), resampler.flush()))
        scaled_S = np.clip(np.round(heard_S * _INT16_SCALE), -_INT16_SCALE, _INT16_SCALE - 1)
        # Header and decoder may disagree by some samples; rows were planned by the header.
        samples_S = np.zeros(member.samples, dtype=np.int16)
        fitting = min(len(scaled_S), member.samples)
        samples_S[:fitting] = scaled_S[:fitting]
        return samples_S

    def nothing_usable(self) -> DataError:
        """The error to raise where a whole epoch gave nothing; it names the first faults."""
        named = "; ".join(f"{fault.shard} {fault.key}: {fault.reason}" for fault in self.faults[:3])
        why = f"{self.fault_count} faults: {named}" if named else "there are more readers than utterances"
        return DataError(
            f"no usable utterance for reader {self.reader} of {self.readers} in {len(self.shards)} shards; {why}"
        )

    def _read(self, shards: Sequence[Path]) -> Iterator[Member]:
        iterators = self._webdataset.tariterators
        for shard in shards:
            whole = True

            def broken(error: Exception, shard: Path = shard) -> bool:
                nonlocal whole
                if whole:
                    self._fault(str(shard), "", f"the tar file is broken: {error.args[0]}")
                whole = False
                return True

            count = 0
            with shard.open("rb") as file:
                files = iterators.tar_file_expander([{"url": str(shard), "stream": file}], handler=broken)
                for sample in iterators.group_by_keys(files, handler=broken):
                    count += 1
                    member = self._member(str(shard), sample)
                    if member is not None:
                        yield member
            expected = self._expected.get(shard, count)
            if whole and count < expected:
                self._fault(str(shard), "", f"only {count} of {expected} utterances could be read")

    def _member(self, shard: str, sample: dict[str, Any]) -> Member | None:
        key = str(sample["__key__"])
        audio = next((sample[suffix[1:]] for suffix in COMPRESSED if suffix[1:] in sample), None)
        try:
            described = json.loads(sample["json"])
            text, sample_rate, frames = (described[name] for name in ("text", "sample_rate", "frames"))
            samples = ceil_div(frames * self.sample_rate, sample_rate)
            if not isinstance(text, str):
                raise TypeError
        except (KeyError, ValueError, TypeError, ZeroDivisionError):
            self._fault(shard, key, "no usable .json with text, sample_rate and frames")
            return None
        if audio is None:
            self._fault(shard, key, f"no audio; expected one of {', '.join(COMPRESSED)}")
            return None
        fault = self.fault_of(text) if self.fault_of is not None else None
        if fault is not None:
            self._fault(shard, key, fault)
            return None
        return Member(shard, key, audio, text, samples)

    def _fault(self, shard: str, key: str, reason: str) -> None:
        self.fault_count += 1
        fault = Fault(shard, key, reason)
        if fault in self.faults or len(self.faults) == FAULTS_NAMED:
            return
        self.faults.append(fault)
        _log.warning("%s %s: %s; left out", shard, key, reason)
        if len(self.faults) == FAULTS_NAMED:
            _log.warning("further faults in shards are counted, not named")


def find_shards(patterns: Sequence[str | Path]) -> list[Path]:
    """The tar files that the patterns name, each once, in their order.

    Raises:
        DataError: a pattern names none.
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
                f"{pattern}: no shards; expected a folder of .tar files, such a file, or a pattern"
            )
        found.update(dict.fromkeys(paths))
    return list(found)


def _expand(pattern: str) -> list[str]:
    """Braces as the shell expands them."""
    return list(_import_webdataset().shardlists.braceexpand.braceexpand(pattern))


def _expected_utterances(shards: Sequence[Path]) -> dict[Path, int]:
    """How many utterances each shard has by the index beside it; shards made elsewhere may have none."""
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
