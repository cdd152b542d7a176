"""Read a ``.nemo`` file: a tar archive, plain or gzipped, of a configuration, weights and tokenizer files.

Nothing is unpacked to disk: single members are read, after all members have been checked. Weights are read as
tensors only, without running any code in them.
"""

from __future__ import annotations

import pickle
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO, Any

import torch
import yaml
from torch import Tensor

from streamasr.errors import ConfigError, ModelError

CONFIG_MEMBER = "model_config.yaml"
WEIGHTS_MEMBER = "model_weights.ckpt"


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Limits of an archive's content."""

    members: int = 1_000
    """Number of files and folders."""
    total_bytes: int = 16 * 1024**3
    """Unpacked size of all members together."""
    small_bytes: int = 64 * 1024**2
    """Size of the configuration and of the tokenizer's model, each."""

    def __post_init__(self) -> None:
        for name in ("members", "total_bytes", "small_bytes"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be positive, got {getattr(self, name)}")


class NemoArchive:
    """The members of an open archive.

    Args:
        tar: the archive.
        path: its name, for errors.
        limits: see :class:`ArchiveLimits`.

    Raises:
        ModelError: a member is a link or a device, would escape, comes twice, or the archive exceeds a limit.
    """

    def __init__(self, tar: tarfile.TarFile, path: Path, limits: ArchiveLimits) -> None:
        self._tar = tar
        self._path = path
        self._limits = limits
        self._members: dict[str, tarfile.TarInfo] = {}
        total = 0
        for count, member in enumerate(tar, 1):
            if count > limits.members:
                raise ModelError(f"{path}: more than {limits.members} members, the limit")
            total += member.size
            if total > limits.total_bytes:
                raise ModelError(f"{path}: its members have more than {limits.total_bytes} bytes, the limit")
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise ModelError(f"{path}: member {member.name!r} would leave the archive's folder")
            if member.isdir():
                continue
            if not member.isreg():
                raise ModelError(
                    f"{path}: member {member.name!r} is a link or a device; expected plain files"
                )
            if str(name) in self._members:
                raise ModelError(f"{path}: holds {str(name)!r} twice")
            self._members[str(name)] = member

    def config(self) -> Mapping[str, Any]:
        """Read the model's configuration.

        Raises:
            ModelError: it is missing, or not a YAML mapping.
        """
        try:
            config = yaml.safe_load(self.read(CONFIG_MEMBER))
        except yaml.YAMLError as error:
            raise ModelError(f"{self._path}: {CONFIG_MEMBER}: not valid YAML: {error}") from None
        if not isinstance(config, dict):
            raise ModelError(
                f"{self._path}: {CONFIG_MEMBER}: expected names with values, got {type(config).__name__}"
            )
        return MappingProxyType(config)

    def read(self, name: str) -> bytes:
        """Read a small member.

        Raises:
            ModelError: it is missing, or larger than ``ArchiveLimits.small_bytes``.
        """
        member = self._member(name)
        if member.size > self._limits.small_bytes:
            raise ModelError(
                f"{self._path}: {name} has {member.size} bytes; at most {self._limits.small_bytes} are read"
            )
        return self._open(member).read()

    def weights(self) -> dict[str, Tensor]:
        """Read the state dict, on the CPU.

        Raises:
            ModelError: it is missing, holds anything but tensors, or exceeds the limit when unpacked.
        """
        member = self._member(WEIGHTS_MEMBER)
        with tempfile.TemporaryFile() as file:
            shutil.copyfileobj(self._open(member), file)
            self._check_unpacked(file)
            file.seek(0)
            try:
                weights = torch.load(file, map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise ModelError(
                    f"{self._path}: {WEIGHTS_MEMBER}: holds more than weights: {reason}"
                ) from None
        if not isinstance(weights, dict) or not all(
            isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()
        ):
            raise ModelError(f"{self._path}: {WEIGHTS_MEMBER}: expected names and tensors, a state dict")
        return dict(weights)

    def _check_unpacked(self, file: IO[bytes]) -> None:
        """Check the unpacked size: a checkpoint is a zip file, whose entries may be compressed."""
        if not zipfile.is_zipfile(file):
            return
        unpacked = sum(entry.file_size for entry in zipfile.ZipFile(file).infolist())
        if unpacked > self._limits.total_bytes:
            raise ModelError(
                f"{self._path}: {WEIGHTS_MEMBER} unpacks to {unpacked} bytes; the limit is "
                f"{self._limits.total_bytes}"
            )

    def _member(self, name: str) -> tarfile.TarInfo:
        if name not in self._members:
            names = ", ".join(sorted(self._members)[:8]) or "nothing"
            raise ModelError(f"{self._path}: has no {name}; it holds {names}")
        return self._members[name]

    def _open(self, member: tarfile.TarInfo) -> IO[bytes]:
        file = self._tar.extractfile(member)
        assert file is not None, "only plain files are kept"
        return file


@contextmanager
def open_archive(path: Path, limits: ArchiveLimits) -> Iterator[NemoArchive]:
    """Open the archive at ``path`` as a context manager.

    Raises:
        ModelError: no such file, not a tar archive, truncated, or refused by :class:`NemoArchive`.
    """
    try:
        with tarfile.open(path, "r:*") as tar:
            yield NemoArchive(tar, path, limits)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: a folder; expected a .nemo file") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ModelError(f"{path}: not a readable .nemo file (a tar archive): {error}") from None
