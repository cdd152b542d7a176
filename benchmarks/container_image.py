"""Carry out a Containerfile in chroots, where no container engine or registry can be had, and measure the image.

    sudo python benchmarks/container_image.py --containerfile deploy/Containerfile --out image

Stages begin with a minimal Debian from mmdebstrap instead of ``debian:bookworm-slim``. Understands the instructions
that deploy/ uses. The file system of the last stage lies in ``--out``/root, its command and user in
``--out``/config.json. ``--bind`` shows files and folders of this machine to the steps, for reading only. Variables of
pip are passed on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BASE = "debian:bookworm-slim"
SLIM = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
"""What the slim variant leaves out."""
IGNORED = ("__pycache__", "*.so")


@dataclass
class Stage:
    """A stage: its root and what instructions have set."""

    root: Path
    env: dict[str, str] = field(default_factory=lambda: {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    workdir: str = "/"
    config: dict[str, Any] = field(default_factory=dict)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Yield the instructions of a Containerfile with their arguments."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, arguments = line.strip().partition(" ")
            yield name.upper(), arguments.strip()


def build(containerfile: Path, context: Path, out: Path, binds: Sequence[str]) -> Stage:
    """Carry out all instructions and return the last stage."""
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for name, arguments in instructions(containerfile.read_text(encoding="utf-8")):
        print(f"{name} {arguments[:90]}", flush=True)
        if name == "FROM":
            base, _, label = arguments.partition(" AS ")
            assert base == BASE, base
            stage = stages[label] = Stage(out / (label or "root"))
            _debian(stage.root, out)
            continue
        assert stage is not None, "a Containerfile begins with FROM"
        if name == "RUN":
            with _mounted(stage.root, binds):
                _chroot(stage, ["/bin/sh", "-c", arguments])
        elif name == "COPY":
            _copy(stage, arguments, context, stages)
        elif name == "WORKDIR":
            stage.workdir = arguments
            (stage.root / arguments.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            stage.env |= dict(pair.split("=", 1) for pair in shlex.split(arguments))
        elif name in ("ENTRYPOINT", "CMD"):
            stage.config[name.lower()] = json.loads(arguments)
        elif name == "HEALTHCHECK":
            stage.config["healthcheck"] = json.loads(arguments.partition(" CMD ")[2])
        elif name in ("USER", "EXPOSE", "STOPSIGNAL"):
            stage.config[name.lower()] = arguments
        else:
            raise SystemExit(f"unknown instruction {name}")
    assert stage is not None
    return stage


def _debian(root: Path, out: Path) -> None:
    archive = out / "base.tar"
    if not archive.exists():
        leave_out = [f"--dpkgopt=path-exclude={path}" for path in SLIM]
        subprocess.run(["mmdebstrap", "--variant=minbase", *leave_out, "bookworm", archive], check=True)
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    subprocess.run(["tar", "-C", root, "-xf", archive, "--exclude=./dev/*"], check=True)


@contextmanager
def _mounted(root: Path, binds: Sequence[str]) -> Iterator[None]:
    """Give a step /dev, /proc, the name servers, and the folders to bind."""
    with ExitStack() as stack:
        for path in ("/dev", "/proc", "/etc/resolv.conf", *binds):
            target = root / path.lstrip("/")
            if Path(path).is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.touch()
            subprocess.run(["mount", "--bind", path, target], check=True)
            stack.callback(_unmount, target)
            if path not in ("/dev", "/proc"):
                subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)
        yield


def _unmount(target: Path) -> None:
    subprocess.run(["umount", "--lazy", target], check=True)


def _chroot(stage: Stage, command: Sequence[str]) -> None:
    passed = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    move = ["env", "-C", stage.workdir, *command]
    subprocess.run(["chroot", stage.root, *move], env={**passed, **stage.env}, check=True)


def _copy(stage: Stage, arguments: str, context: Path, stages: dict[str, Stage]) -> None:
    *sources, target = arguments.split()
    origin = context
    if sources[0].startswith("--from="):
        origin = stages[sources.pop(0).removeprefix("--from=")].root
    into = stage.root / (Path(stage.workdir) / target).as_posix().lstrip("/")
    for source in sources:
        path = origin / source.lstrip("/")
        if path.is_dir():
            ignore = shutil.ignore_patterns(*IGNORED) if origin is context else None
            shutil.copytree(path, into, symlinks=True, dirs_exist_ok=True, ignore=ignore)
        else:
            shutil.copy2(path, into / path.name if target.endswith("/") else into)


def size_mb(root: Path) -> int:
    """Return the size of all files, as ``du`` counts them, in MB."""
    run = subprocess.run(["du", "-sxk", root], capture_output=True, text=True, check=True)
    return round(int(run.stdout.split()[0]) * 1_024 / 1_000_000)


def main() -> None:
    """Build and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--containerfile", type=Path, required=True)
    parser.add_argument("--context", type=Path, default=Path())
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bind", nargs="*", default=[])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    stage = build(args.containerfile, args.context, args.out.absolute(), args.bind)
    (args.out / "config.json").write_text(json.dumps({**stage.config, "env": stage.env}, indent=2))
    parts = {name: size_mb(stage.root / name) for name in ("opt/streamasr", "usr")}
    print(json.dumps({"image_mb": size_mb(stage.root), **parts}))


if __name__ == "__main__":
    main()
