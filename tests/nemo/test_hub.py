"""Test downloads from a fake hub on this machine: resuming, checks and errors."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub", reason="streamasr[hub] is not installed")

from streamasr.cli import main
from streamasr.errors import ConfigError, ModelError
from streamasr.nemo.hub import CHECKPOINTS, Checkpoint, default_cache, fetch_checkpoint, find_checkpoint

CONTENT = bytes(range(256)) * 4_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
CHECKPOINT = Checkpoint(repository="someone/small", language="en", licence="CC0", description="")
COMMIT = "0" * 40


class Hub(ThreadingHTTPServer):
    """A hub with one file, and how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.digest = DIGEST
        self.status = 200
        self.cuts: list[int] = []
        """After how many bytes each of the next answers breaks off."""
        self.served: list[str | None] = []
        """The ``Range`` of every download."""
        self.answering = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.answering.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._head(len(self.server.content))

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.served.append(asked)
        start = int(re.findall(r"\d+", asked)[0]) if asked else 0
        body = self.server.content[start:]
        if not self._head(len(body), 206 if asked else 200):
            return
        self.wfile.write(body[: self.server.cuts.pop(0)] if self.server.cuts else body)

    def _head(self, length: int, status: int = 200) -> bool:
        hub = self.server
        found = self.path == "/someone/small/resolve/main/small.nemo" and hub.status == 200
        self.send_response(status if found else max(404, hub.status))
        self.send_header("X-Repo-Commit", COMMIT)
        if found:
            self.send_header("ETag", '"pointer"')
            self.send_header("X-Linked-Etag", f'"{hub.digest}"')
            self.send_header("X-Linked-Size", str(len(hub.content)))
        else:
            self.send_header("X-Error-Code", "EntryNotFound" if hub.status == 200 else "")
        self.send_header("Content-Length", str(length if found else 0))
        self.end_headers()
        return found

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    server = Hub()
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once(hub: Hub, tmp_path: Path) -> None:
    path = fetch_checkpoint(CHECKPOINT, tmp_path / "cache", endpoint=hub.url)
    assert path.read_bytes() == CONTENT
    assert path.suffix == ".nemo"
    assert fetch_checkpoint(CHECKPOINT, tmp_path / "cache", endpoint=hub.url) == path
    assert hub.served == [None]


def test_a_broken_download_is_resumed(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [300_000, 500_000]
    path = fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)
    assert path.read_bytes() == CONTENT
    assert hub.served == [None, "bytes=300000-", "bytes=800000-"]


def test_another_run_resumes_a_download(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [400_000, *[0] * 10]
    with pytest.raises(ModelError, match="the downloaded part is kept"):
        fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)
    (partial,) = tmp_path.iterdir()
    assert partial.read_bytes() == CONTENT[:400_000]
    hub.cuts, hub.served = [], []
    assert fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url).read_bytes() == CONTENT
    assert hub.served == ["bytes=400000-"]
    assert not partial.exists()


def test_a_part_of_another_version_is_not_continued(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [400_000, *[0] * 10]
    with pytest.raises(ModelError):
        fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)
    hub.cuts, hub.served = [], []
    hub.content = CONTENT[::-1]
    hub.digest = hashlib.sha256(hub.content).hexdigest()
    assert fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url).read_bytes() == hub.content
    assert hub.served == [None]


def test_a_wrong_digest_is_an_error_and_the_file_deleted(hub: Hub, tmp_path: Path) -> None:
    hub.digest = "ab" * 32
    with pytest.raises(ModelError, match=f"the digest is {DIGEST}, not the abab"):
        fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)
    assert list(tmp_path.iterdir()) == []


def test_a_small_file_is_checked_by_gits_digest(hub: Hub, tmp_path: Path) -> None:
    hub.content = b"small"
    hub.digest = hashlib.sha1(b"blob 5\0small").hexdigest()
    assert fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url).read_bytes() == b"small"
    hub.digest = hashlib.sha1(b"other").hexdigest()
    with pytest.raises(ModelError, match="the digest is"):
        fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)


def test_a_hub_without_digests_is_not_trusted(hub: Hub, tmp_path: Path) -> None:
    hub.digest = "weak"
    with pytest.raises(ModelError, match="could not be checked"):
        fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)


def test_a_file_that_is_not_there(hub: Hub, tmp_path: Path) -> None:
    missing = Checkpoint(repository="someone/else", language="en", licence="CC0", description="")
    with pytest.raises(ModelError, match=r"has no else\.nemo in someone/else at main"):
        fetch_checkpoint(missing, tmp_path, endpoint=hub.url)


def test_a_hub_that_fails(hub: Hub, tmp_path: Path) -> None:
    hub.status = 503
    with pytest.raises(ModelError, match=r"refused small\.nemo"):
        fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub.url)


def test_a_missing_network_is_reported(tmp_path: Path) -> None:
    with socket.socket() as taken:  # bound and not listening: nobody answers there
        taken.bind(("127.0.0.1", 0))
        hub = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ModelError, match=r"cannot be reached.*streamasr model import-nemo"):
            fetch_checkpoint(CHECKPOINT, tmp_path, endpoint=hub)


def test_names() -> None:
    for name, checkpoint in CHECKPOINTS.items():
        assert find_checkpoint(name) is checkpoint
        assert find_checkpoint(checkpoint.repository) is checkpoint
        assert checkpoint.file == f"{name}.nemo"
    assert find_checkpoint("someone/small").file == "small.nemo"
    for wrong in ("small", "a/b/c", "../x", "https://example.org/a"):
        with pytest.raises(ConfigError, match="expected one of stt_en"):
            find_checkpoint(wrong)


def test_the_cache_is_among_the_users_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "streamasr" / "checkpoints"


def test_the_command_lists_the_known_checkpoints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "fetch"]) == 0
    assert "stt_en_fastconformer_hybrid_large_streaming_multi\t" in capsys.readouterr().out


def test_the_command_imports_the_download(
    hub: Hub, tmp_path: Path, nemo_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.content = nemo_file.read_bytes()
    hub.digest = hashlib.sha256(hub.content).hexdigest()
    out = tmp_path / "model"
    flags = ["--out", str(out), "--cache", str(tmp_path / "cache"), "--endpoint", hub.url]
    assert main(["model", "fetch", "someone/small", *flags]) == 0
    assert (out / "config.toml").is_file()
    assert "small, from someone/small" in capsys.readouterr().out
    assert main(["model", "fetch", "someone/small", *flags]) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.fixture
def nemo_file(nemo_dir: Path) -> Path:
    """A checkpoint saved by NeMo itself."""
    return nemo_dir / "A.nemo"
