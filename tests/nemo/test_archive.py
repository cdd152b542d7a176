"""Test that archives are read safely: nothing is unpacked, no code runs, and limits hold."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from streamasr.errors import ConfigError, ModelError
from streamasr.nemo.archive import ArchiveLimits, open_archive

Pack = Callable[..., Path]


def read(path: Path, **limits: int) -> dict[str, torch.Tensor]:
    with open_archive(path, ArchiveLimits(**limits)) as archive:
        archive.config()
        return archive.weights()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_plain_and_gzipped_archives_are_read(pack: Pack, mode: str) -> None:
    assert "encoder.pre_encode.out.weight" in read(pack(mode=mode))


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_members_that_would_leave_the_folder_are_refused(pack: Pack, name: str) -> None:
    path = pack()
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ModelError, match="would leave the archive's folder"):
        read(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(pack: Pack, kind: bytes) -> None:
    path = pack()
    member = tarfile.TarInfo("link")
    member.type, member.linkname = kind, "model_config.yaml"
    with tarfile.open(path, "a") as tar:
        tar.addfile(member)
    with pytest.raises(ModelError, match="'link' is a link or a device; expected plain files"):
        read(path)


def test_a_duplicate_member_is_refused(pack: Pack) -> None:
    path = pack()
    with tarfile.open(path, "a") as tar:
        tar.addfile(tarfile.TarInfo("model_config.yaml"), io.BytesIO())
    with pytest.raises(ModelError, match=r"holds 'model_config\.yaml' twice"):
        read(path)


def test_limits_hold(pack: Pack) -> None:
    path = pack()
    with pytest.raises(ModelError, match="more than 2 members, the limit"):
        read(path, members=2)
    with pytest.raises(ModelError, match="its members have more than 1000 bytes, the limit"):
        read(path, total_bytes=1_000)
    with pytest.raises(ModelError, match=r"model_config\.yaml has \d+ bytes; at most 10 are read"):
        read(path, small_bytes=10)
    with pytest.raises(ConfigError, match="members must be positive, got 0"):
        ArchiveLimits(members=0)


def test_weights_that_unpack_to_more_than_the_limit_are_refused(pack: Pack) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("archive/data/0", bytes(5_000_000))
    with pytest.raises(ModelError, match="unpacks to 5000000 bytes; the limit is 1000000"):
        read(pack(model_weights__ckpt=bomb.getvalue()), total_bytes=1_000_000)


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('code of the checkpoint ran')",))


def saved_by_torch(weights: object) -> bytes:
    file = io.BytesIO()
    torch.save(weights, file)
    return file.getvalue()


@pytest.mark.parametrize("packer", [pickle.dumps, saved_by_torch])
def test_code_in_weights_does_not_run(pack: Pack, packer: Callable[[object], bytes]) -> None:
    with pytest.raises(ModelError, match=r"model_weights\.ckpt: holds more than weights"):
        read(pack(model_weights__ckpt=packer({"a": Evil()})))


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": 1}, {1: torch.zeros(1)}])
def test_anything_but_names_and_tensors_is_refused(pack: Pack, content: object) -> None:
    saved = io.BytesIO()
    torch.save(content, saved)
    with pytest.raises(ModelError, match="expected names and tensors, a state dict"):
        read(pack(model_weights__ckpt=saved.getvalue()))


def test_missing_and_broken_files_are_named(pack: Pack, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere\.nemo: no such file"):
        read(tmp_path / "nowhere.nemo")
    with pytest.raises(ModelError, match=r"a folder; expected a \.nemo file"):
        read(tmp_path)
    (tmp_path / "text.nemo").write_text("no archive")
    with pytest.raises(ModelError, match=r"not a readable \.nemo file"):
        read(tmp_path / "text.nemo")
    with pytest.raises(ModelError, match=r"has no model_weights\.ckpt; it holds abc_tokenizer"):
        read(pack(model_weights__ckpt=None))
    with pytest.raises(ModelError, match="not valid YAML"):
        read(pack(model_config__yaml=b"a: [1"))
    with pytest.raises(ModelError, match="expected names with values, got list"):
        read(pack(model_config__yaml=b"- 1"))
    path = pack()
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(ModelError, match=r"not a readable \.nemo file"):
        read(path)
