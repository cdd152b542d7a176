"""Manifests to shards: tar files in webdataset's format, each a random part of the whole. Decodes nothing twice.

A shard holds, for every utterance, its audio (the compressed file as it was, else FLAC) and a ``.json`` with
``text``, ``speaker``, ``sample_rate`` and ``frames``; ``index.json`` beside the shards says how many utterances each
of them has, so that a shard cut short is noticed.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from streamasr.errors import ConfigError, DataError
from streamasr.manifest import Utterance, read_manifest
from streamasr.training.data.audio.header import Header, read_header
from streamasr.training.data.audio.processes import Progress, map_in_processes

INDEX = "index.json"
COMPRESSED = (".flac", ".opus", ".ogg", ".mp3")
"""Files with these suffixes are packed as they are; any other audio becomes 16-bit FLAC."""
_BYTES_A_MB = 1_000_000
_TAR_BLOCK = 512


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file, as the index lists it."""

    name: str
    utterances: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Sharded:
    """What came of packing."""

    shards: tuple[Shard, ...]
    unreadable: tuple[str, ...]
    """Why files were left out, one message each."""


@dataclass(frozen=True, slots=True)
class _Packed:
    suffix: str
    audio: bytes
    header: Header


def write_shards(
    manifests: Sequence[Path],
    out: Path,
    *,
    shard_mb: float = 256.0,
    seed: int = 1,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Sharded:
    """Pack every utterance of the manifests into ``out``, whole or not at all.

    Args:
        manifests: packed together, in one random order.
        out: a folder that must not exist yet, or be empty.
        shard_mb: size of a shard in megabytes (10^6 bytes); a longer utterance has a shard of its own.
        seed: of the order.
        workers: processes that read and compress audio.
        progress: told of every utterance.

    Raises:
        ConfigError: ``out`` holds something, the size is not positive, or webdataset is not installed.
        DataError: a manifest cannot be used, or no audio file at all could be read.
    """
    if not shard_mb > 0:
        raise ConfigError(f"the size of a shard must be positive, got {shard_mb:g} MB")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out}: exists and is not an empty folder; shards are written into one of their own"
        )
    writer = tar_writer()
    utterances = [utterance for path in manifests for utterance in read_manifest(path)]
    order = np.random.default_rng(seed).permutation(len(utterances))
    utterances = [utterances[number] for number in order]
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    unreadable: list[str] = []
    packed = map_in_processes(
        _pack, [utterance.audio for utterance in utterances], workers=workers, progress=progress
    )

    def members() -> Iterator[tuple[Utterance, _Packed]]:
        for utterance, result in zip(utterances, packed, strict=True):
            if isinstance(result, _Packed):
                yield utterance, result
            else:
                unreadable.append(result)

    shards = _write(members(), partial, round(shard_mb * _BYTES_A_MB), writer)
    if not shards:
        shutil.rmtree(partial)
        raise DataError(f"{out}: not written, no audio file could be read; the first: {unreadable[0]}")
    index = {"shards": [asdict(shard) for shard in shards]}
    (partial / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    if out.exists():
        out.rmdir()
    partial.rename(out)
    return Sharded(tuple(shards), tuple(unreadable))


def tar_writer() -> Any:
    """webdataset's ``TarWriter``.

    Raises:
        ConfigError: webdataset is not installed.
    """
    try:
        from webdataset import TarWriter
    except ImportError:
        raise ConfigError("shards need webdataset: pip install 'streamasr[train]'") from None
    return TarWriter


def _write(
    members: Iterator[tuple[Utterance, _Packed]], folder: Path, shard_bytes: int, writer: Any
) -> list[Shard]:
    shards: list[Shard] = []
    number = 0
    held = next(members, None)
    while held is not None:
        name = f"shard-{len(shards):06d}.tar"
        size, count, seconds = 0, 0, 0.0
        # A fixed time and owner: the same manifests and seed give the same bytes.
        with (folder / name).open("wb") as file, writer(file, mtime=0, user="", group="") as tar:
            while held is not None:
                utterance, packed = held
                member_bytes = len(packed.audio) + 4 * _TAR_BLOCK
                if count and size + member_bytes > shard_bytes:
                    break
                tar.write(_member(number, utterance, packed))
                number, count, size = number + 1, count + 1, size + member_bytes
                seconds += packed.header.duration_s
                held = next(members, None)
        shards.append(Shard(name, count, round(seconds, 3)))
    return shards


def _member(number: int, utterance: Utterance, packed: _Packed) -> dict[str, Any]:
    described = {
        "text": utterance.text,
        "speaker": utterance.speaker,
        "sample_rate": packed.header.sample_rate,
        "frames": packed.header.frames,
    }
    # A key without dots: webdataset takes what follows the first dot for the suffix.
    return {
        "__key__": f"{number:09d}",
        packed.suffix: packed.audio,
        "json": json.dumps(described, ensure_ascii=False).encode(),
    }


def _pack(audio: Path) -> _Packed | str:
    """The bytes to store, or why there are none."""
    try:
        header = read_header(audio)
        suffix = audio.suffix.lower()
        if suffix in COMPRESSED:
            return _Packed(suffix[1:], audio.read_bytes(), header)
        samples_SC, sample_rate = soundfile.read(audio, dtype="int16")
    except DataError as error:
        return error.message
    except (OSError, soundfile.LibsndfileError) as error:
        return f"{audio}: {error}"
    file = io.BytesIO()
    soundfile.write(file, samples_SC, sample_rate, format="FLAC", subtype="PCM_16")
    return _Packed("flac", file.getvalue(), header)
