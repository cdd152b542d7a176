"""Run the ``streamasr`` command: each subcommand is a module, imported only when it runs."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from streamasr import __version__
from streamasr.cli.output import discard_stdout, replace_unencodable
from streamasr.errors import StreamasrError

COMMANDS = {
    "serve": "run the captions daemon",
    "install-service": "install the daemon as a systemd service",
    "doctor": "check that this machine can run the daemon and record",
    "listen": "show live captions of a microphone in the terminal",
    "transcribe": "transcribe audio files",
    "data": "import, check, preview and pack training data",
    "synthesise": "make synthetic training speech from text",
    "train": "train or fine-tune a model",
    "report": "write the page of a training run",
    "tokens": "make the tokens of a model from text",
    "evaluate": "measure error rates and speed of a model on manifests",
    "lm": "build, measure and tune language models",
    "punctuation": "train and measure models that write capitals and punctuation",
    "model": "inspect, convert and export models",
    "bench": "load-test a running daemon",
}
"""Names of the commands with their summaries. ``streamasr/cli/<name>.py``, with underscores, defines ``EXAMPLE``,
``add_arguments`` and ``run``."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 failed, 2 usage error, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else list(argv)
    # NumPy reads it when it is imported. It works on small matrices only: more threads would wait more than work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    replace_unencodable()
    parser = argparse.ArgumentParser(
        prog="streamasr", description="Streaming speech recognition for live captions."
    )
    parser.add_argument("--version", action="version", version=f"streamasr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    command = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == command:
            module = importlib.import_module(f"streamasr.cli.{name.replace('-', '_')}")
            sub.epilog = "example:\n  " + module.EXAMPLE.replace("\n", "\n  ")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except StreamasrError as error:
        print(f"streamasr {args.command}: {error.message}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the program that reads standard output has ended
        discard_stdout()
        return 1
    except KeyboardInterrupt:
        return 130
