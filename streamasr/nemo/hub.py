"""Download checkpoints by name from a Hugging Face hub, resume broken downloads, and check the hub's digest.

huggingface_hub talks to the hub. It discards the partial file of a failed download, so this module keeps it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamasr.errors import ConfigError, ModelError

SUFFIX = ".nemo"
PUBLIC_HUB = "https://huggingface.co"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint file on the hub."""

    repository: str
    """``owner/name``; the file is called ``name`` with the suffix ``.nemo``."""
    language: str
    licence: str
    description: str

    @property
    def file(self) -> str:
        """The file's name in the repository."""
        return self.repository.partition("/")[2] + SUFFIX


def _nvidia(name: str, description: str) -> Checkpoint:
    return Checkpoint(
        repository=f"nvidia/{name}", language="en", licence="CC-BY-4.0", description=description
    )


CHECKPOINTS: Mapping[str, Checkpoint] = {
    "stt_en_fastconformer_hybrid_large_streaming_multi": _nvidia(
        "stt_en_fastconformer_hybrid_large_streaming_multi", "114 M weights, several look-aheads"
    ),
    "stt_en_fastconformer_hybrid_medium_streaming_80ms": _nvidia(
        "stt_en_fastconformer_hybrid_medium_streaming_80ms", "32 M weights, look-ahead of 80 ms"
    ),
    "stt_en_fastconformer_hybrid_medium_streaming_80ms_pc": _nvidia(
        "stt_en_fastconformer_hybrid_medium_streaming_80ms_pc",
        "32 M weights, look-ahead of 80 ms, writes capitals and punctuation",
    ),
}
"""Streaming FastConformers with a CTC head that NVIDIA publishes, by name."""


def find_checkpoint(name: str) -> Checkpoint:
    """Find a checkpoint by its name in :data:`CHECKPOINTS`, or by its repository ``owner/name``.

    Raises:
        ConfigError: ``name`` is neither; the message lists the known names.
    """
    if name in CHECKPOINTS:
        return CHECKPOINTS[name]
    known = next((c for c in CHECKPOINTS.values() if c.repository == name), None)
    if known is not None:
        return known
    if _REPOSITORY.fullmatch(name):
        return Checkpoint(repository=name, language="en", licence="see the repository", description="")
    raise ConfigError(
        f"unknown checkpoint {name!r}; expected one of {', '.join(CHECKPOINTS)}, or OWNER/REPOSITORY"
    )


def default_cache() -> Path:
    """The default folder for downloaded checkpoints."""
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "streamasr" / "checkpoints"


def fetch_checkpoint(
    checkpoint: Checkpoint, cache: Path, *, endpoint: str | None = None, revision: str = "main"
) -> Path:
    """Return the checkpoint's file in ``cache``; download it if missing, and check it in any case.

    A broken download is resumed by the next call. Progress is shown on standard error.

    Args:
        checkpoint: the checkpoint.
        cache: a folder; created if missing.
        endpoint: the hub's address; by default ``HF_ENDPOINT`` or the public hub.
        revision: branch, tag or commit.

    Raises:
        ConfigError: huggingface_hub is not installed.
        ModelError: the hub cannot be reached, does not have the file, or the file does not match its digest.
    """
    try:
        import httpx2
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise ConfigError(
            "fetching needs the package huggingface_hub: pip install 'streamasr[hub]'"
        ) from None
    hub = endpoint or os.environ.get("HF_ENDPOINT") or PUBLIC_HUB
    try:
        url = huggingface_hub.hf_hub_url(
            checkpoint.repository, checkpoint.file, revision=revision, endpoint=hub
        )
        metadata = huggingface_hub.get_hf_file_metadata(url, endpoint=hub)
        digest = metadata.etag or ""
        if not (_SHA256.fullmatch(digest) or _SHA1.fullmatch(digest)):
            raise ModelError(f"{hub} sends no digest of {checkpoint.file}, so the file could not be checked")
        # The name contains the digest, so that parts of two versions are never mixed.
        cache.mkdir(parents=True, exist_ok=True)
        complete = cache / f"{checkpoint.file.removesuffix(SUFFIX)}-{digest[:12]}{SUFFIX}"
        if not complete.exists():
            partial = complete.with_suffix(".partial")
            _download(metadata, url, partial, checkpoint.file)
            partial.replace(complete)
    except errors.GatedRepoError:
        raise ModelError(
            f"{hub}/{checkpoint.repository} requires accepting its terms there first; then set HF_TOKEN"
        ) from None
    except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError):
        raise ModelError(f"{hub} has no {checkpoint.file} in {checkpoint.repository} at {revision}") from None
    except errors.HfHubHTTPError as error:
        raise ModelError(f"{hub} refused {checkpoint.file}: {error}") from None
    except (httpx2.TransportError, errors.OfflineModeIsEnabled) as error:
        raise ModelError(
            f"{hub} cannot be reached ({error or type(error).__name__}); "
            "the downloaded part is kept, so try again later. "
            f"Without a network, copy {checkpoint.file} here and use `streamasr model import-nemo`"
        ) from None
    except OSError as error:
        raise ModelError(f"{checkpoint.file} was not downloaded: {error}") from None
    actual_digest = _digest(complete, sha256=bool(_SHA256.fullmatch(digest)))
    if actual_digest != digest:
        complete.unlink()
        raise ModelError(
            f"{checkpoint.file}: the digest is {actual_digest}, not the {digest} that {hub} announced; "
            "the file was deleted, so fetch it again"
        )
    return complete


def _download(metadata: Any, url: str, partial: Path, name: str) -> None:
    """Append the missing rest to ``partial``."""
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    location = metadata.location or url
    # The token is for the hub only, not for the file store that it redirects to.
    same_host = location.split("/")[:3] == url.split("/")[:3]
    downloaded = partial.stat().st_size if partial.exists() else 0
    if metadata.size is not None and downloaded > metadata.size:
        partial.unlink()
        downloaded = 0
    with partial.open("ab") as file:
        http_get(
            location,
            file,
            resume_size=downloaded,
            headers=build_hf_headers(token=None if same_host else False),
            expected_size=metadata.size,
            displayed_filename=name,
        )


def _digest(path: Path, *, sha256: bool) -> str:
    """SHA-256 for large files, git's blob hash for small ones."""
    digest = hashlib.sha256() if sha256 else hashlib.sha1(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
