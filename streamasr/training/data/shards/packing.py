"""Pack manifests into shards: tar files in webdataset's format, each a random part of the utterances.

A shard holds two files per utterance: its audio (a compressed file as it is, anything else as FLAC) and a ``.json``
with ``text``, ``speaker``, ``sample_rate`` and ``frames``. ``index.json`` beside the shards lists the number of
utterances in each shard, so that the reader notices a truncated one. Shape suffixes: S samples, C channels.
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
from streamasr.media.reader import open_file
from streamasr.training.data.audio.header import Header, read_header
from streamasr.training.data.audio.processes import Progress, map_in_processes

INDEX = "index.json"
COMPRESSED = (".flac", ".opus", ".ogg", ".mp3")
"""Files with these suffixes are packed as they are; other audio is converted to 16-bit FLAC."""
_BYTES_PER_MB = 1_000_000
_TAR_BLOCK = 512
_INT16_SCALE = 32_768


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar file, as it is listed in the index."""

    name: str
    utterances: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PackingResult:
    """The shards that were written, and the files that were left out."""

    shards: tuple[Shard, ...]
    unreadable: tuple[str, ...]
    """One message per file that could not be read."""


@dataclass(frozen=True, slots=True)
class _PackedAudio:
    """The audio of an utterance as it is stored in a shard."""

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
) -> PackingResult:
    """Pack the utterances of the manifests into ``out``; on an error, ``out`` is not created.

    Args:
        manifests: packed together, in one random order.
        out: the folder to create; an existing one must be empty.
        shard_mb: largest size of a shard in megabytes (10^6 bytes); a larger utterance gets its own shard.
        seed: seed of the order.
        workers: processes that read and compress audio; by default one for each CPU that this process may use.
        progress: called after each utterance.

    Raises:
        ConfigError: ``out`` is not empty, ``shard_mb`` is not positive, or webdataset is not installed.
        DataError: a manifest cannot be used, or no audio file can be read.
    """
    if not shard_mb > 0:
        raise ConfigError(f"the size of a shard must be positive, got {shard_mb:g} MB")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: exists and is not an empty folder; shards need a new or empty folder")
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

    def entries() -> Iterator[tuple[Utterance, _PackedAudio]]:
        for utterance, result in zip(utterances, packed, strict=True):
            if isinstance(result, _PackedAudio):
                yield utterance, result
            else:
                unreadable.append(result)

    shards = _write(entries(), partial, round(shard_mb * _BYTES_PER_MB), writer)
    if not shards:
        shutil.rmtree(partial)
        raise DataError(f"{out}: not written, no audio file could be read; first problem: {unreadable[0]}")
    index = {"shards": [asdict(shard) for shard in shards]}
    (partial / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
    if out.exists():
        out.rmdir()
    partial.rename(out)
    return PackingResult(tuple(shards), tuple(unreadable))


def tar_writer() -> Any:
    """Return webdataset's ``TarWriter`` class.

    Raises:
        ConfigError: webdataset is not installed.
    """
    try:
        from webdataset import TarWriter
    except ImportError:
        raise ConfigError("shards need webdataset: pip install 'streamasr[train]'") from None
    return TarWriter


def _write(
    entries: Iterator[tuple[Utterance, _PackedAudio]], folder: Path, shard_bytes: int, writer: Any
) -> list[Shard]:
    shards: list[Shard] = []
    number = 0
    entry = next(entries, None)
    while entry is not None:
        name = f"shard-{len(shards):06d}.tar"
        size, count, seconds = 0, 0, 0.0
        # With a fixed time and owner, the same manifests and seed give the same bytes.
        with (folder / name).open("wb") as file, writer(file, mtime=0, user="", group="") as tar:
            while entry is not None:
                utterance, packed = entry
                entry_bytes = len(packed.audio) + 4 * _TAR_BLOCK
                if count and size + entry_bytes > shard_bytes:
                    break
                tar.write(_tar_sample(number, utterance, packed))
                number, count, size = number + 1, count + 1, size + entry_bytes
                seconds += packed.header.duration_s
                entry = next(entries, None)
        shards.append(Shard(name, count, round(seconds, 3)))
    return shards


def _tar_sample(number: int, utterance: Utterance, packed: _PackedAudio) -> dict[str, Any]:
    metadata = {
        "text": utterance.text,
        "speaker": utterance.speaker,
        "sample_rate": packed.header.sample_rate,
        "frames": packed.header.frames,
    }
    # The key has no dots: webdataset takes everything after the first dot as the suffix.
    return {
        "__key__": f"{number:09d}",
        packed.suffix: packed.audio,
        "json": json.dumps(metadata, ensure_ascii=False).encode(),
    }


def _pack(audio: Path) -> _PackedAudio | str:
    """Return the audio to store, or a message if the file cannot be read."""
    try:
        header = read_header(audio)
        if header.incomplete:
            return header.incomplete
        suffix = audio.suffix.lower()
        if suffix in COMPRESSED:
            return _PackedAudio(suffix[1:], audio.read_bytes(), header)
        with open_file(audio) as reader:
            samples_SC = np.concatenate([np.zeros((0, reader.channels), np.float32), *reader.blocks()])
    except DataError as error:
        return error.message
    except OSError as error:
        return f"{audio}: {error}"
    scaled_SC = np.clip(np.round(samples_SC * _INT16_SCALE), -_INT16_SCALE, _INT16_SCALE - 1)
    file = io.BytesIO()
    soundfile.write(file, scaled_SC.astype(np.int16), header.sample_rate, format="FLAC", subtype="PCM_16")
    return _PackedAudio("flac", file.getvalue(), header)
