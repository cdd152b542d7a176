"""Find how many real-time streams one engine carries on a GPU with 99 % of the chunks answered within 300 ms.

    python benchmarks/gpu_streams.py --audio speech.wav --model fastconformer-large --latency-ms 160 560 1120
    python benchmarks/gpu_streams.py --audio speech.wav --device cpu --latency-ms 640 --most 4 --duration 5

The second command is a rehearsal on a CPU. Streams are fed to the engine itself, from one thread and without sockets,
in pieces of 100 ms, and begin evenly spread over a chunk. Front end and encoder are on the device, the decoder on
threads of the CPU. A chunk's lag is the time from when its last sample was fed until its messages were sent. The
number of streams is doubled until a trial fails, and then approached by bisection. A trial also fails if the thread
that feeds the streams is itself late, because the lags then mean nothing.

A size of ``encoder_cost.py`` is a model with random weights. Prints a table with one row for each trial, then one
JSON line last.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from server_load import model_of

from streamasr.cli.bench import read_pcm
from streamasr.engine.config import EngineConfig
from streamasr.engine.engine import Engine
from streamasr.engine.session import Session
from streamasr.engine.stats import EngineStats, HistogramSnapshot
from streamasr.errors import StreamasrError
from streamasr.protocol.messages import Start
from streamasr.recognition.model import LoadedModel, load_model
from streamasr.service.loadtest import SAMPLE_RATE, LimitSearch

MAX_LAG_S = 0.3
LATE_SHARE = 0.01
MAX_FEEDING_LATE_S = 0.1
PIECE_S = 0.1
BYTES_PER_SAMPLE = 2


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one number of streams gave."""

    latency_ms: int
    streams: int
    chunks: int
    late_share: float
    """Of the chunks, later than 300 ms."""
    feeding_late_s: float
    """The latest piece of audio."""
    chunks_per_step: float
    frontend_ms: float
    """Of a step, as the others."""
    encoder_ms: float
    decoder_ms: float
    step_share: float
    """Of the time, in which the engine's thread ran front end, encoder or decoder."""

    @property
    def passed(self) -> bool:
        """Whether the streams were served in time."""
        in_time = self.late_share <= LATE_SHARE and self.feeding_late_s <= MAX_FEEDING_LATE_S
        return bool(self.chunks) and in_time


class Player(threading.Thread):
    """Feeds the same audio to many sessions in real time; their beginnings are spread evenly over ``spread_s``."""

    def __init__(self, sessions: list[Session], pcm: bytes, spread_s: float) -> None:
        super().__init__(daemon=True)
        self._pcm = pcm
        starts_s = np.arange(len(sessions)) * spread_s / len(sessions)
        # In the order of their pieces: first the time within a piece, then the pieces until the session begins.
        self._line = sorted(
            zip(starts_s % PIECE_S, starts_s // PIECE_S, sessions, strict=True), key=lambda x: x[0]
        )
        self._stopped = threading.Event()
        self.late_s = 0.0
        """The latest piece so far."""

    def stop(self) -> None:
        """Feed nothing more."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Feed every session each piece when its last sample is due."""
        piece = round(PIECE_S * SAMPLE_RATE) * BYTES_PER_SAMPLE
        begin, number = time.monotonic(), 0
        while not self._stopped.is_set():
            at = number * piece % (len(self._pcm) - piece)
            for phase_s, first_piece, session in self._line:
                if number < first_piece:
                    continue
                wait_s = begin + phase_s + (number + 1) * PIECE_S - time.monotonic()
                if wait_s > 0 and self._stopped.wait(wait_s):
                    return
                self.late_s = max(self.late_s, -wait_s)
                session.feed(self._pcm[at : at + piece])
            number += 1


def trial(model: LoadedModel, pcm: bytes, latency_ms: int, streams: int, *, duration_s: float) -> Trial:
    """Run one number of streams for ``duration_s``, after a warm-up of the same length."""
    config = EngineConfig(max_sessions=streams, max_batch=streams)
    with Engine(model, config) as engine:
        start = Start(latency_ms=latency_ms, partials=True)
        sessions = [engine.open(start, lambda _: None) for _ in range(streams)]
        player = Player(sessions, pcm, latency_ms / 1_000)
        player.start()
        time.sleep(duration_s)
        before, player.late_s = engine.stats(), 0.0
        time.sleep(duration_s)
        after, late_s = engine.stats(), player.late_s
        player.stop()
        for session in sessions:
            session.abort()
    return Trial(
        latency_ms=latency_ms, streams=streams, feeding_late_s=late_s, **_work(before, after, duration_s)
    )


def _work(before: EngineStats, after: EngineStats, duration_s: float) -> dict[str, Any]:
    """Return the other figures of a trial."""

    def grown(part: Callable[[EngineStats], HistogramSnapshot]) -> float:
        return part(after).sum - part(before).sum

    steps = max(1, after.steps - before.steps)
    lags = [
        late - earlier
        for late, earlier in zip(after.chunk_lag_s.counts, before.chunk_lag_s.counts, strict=True)
    ]
    chunks = sum(lags)
    in_time = sum(
        count for bound, count in zip(after.chunk_lag_s.bounds, lags, strict=False) if bound <= MAX_LAG_S
    )
    frontend_s, encoder_s = grown(lambda stats: stats.frontend_s), grown(lambda stats: stats.encoder_s)
    decoder_s = grown(lambda stats: stats.decoder_s)
    return {
        "chunks": chunks,
        "late_share": 1 - in_time / chunks if chunks else 1.0,
        "chunks_per_step": chunks / steps,
        "frontend_ms": 1_000 * frontend_s / steps,
        "encoder_ms": 1_000 * encoder_s / steps,
        "decoder_ms": 1_000 * decoder_s / steps,
        "step_share": (frontend_s + encoder_s + decoder_s) / duration_s,
    }


def find_limit(measure: Callable[[int], Trial], first: int, most: int) -> list[Trial]:
    """Try numbers of streams until the highest that passes is known to a sixteenth of it; return all trials."""
    trials: list[Trial] = []
    search = LimitSearch(min(first, most), most, share=16)
    while (streams := search.next()) is not None:
        trials.append(measure(streams))
        search.note(streams, carried=trials[-1].passed)
    return trials


def table(trials: list[Trial]) -> Table:
    """Return a table with one row for each trial."""
    columns = ("chunk ms", "streams", "late", "batch", "front end ms", "encoder ms", "decoder ms", "busy")
    shown = Table(
        *columns, title="late: answered after more than 300 ms; ms a step", caption="kept up in bold"
    )
    for each in trials:
        cells = [
            f"{each.latency_ms}",
            f"{each.streams}",
            f"{each.late_share:.1%}",
            f"{each.chunks_per_step:.1f}",
            f"{each.frontend_ms:.1f}",
            f"{each.encoder_ms:.1f}",
            f"{each.decoder_ms:.1f}",
            f"{each.step_share:.0%}",
        ]
        shown.add_row(*cells, style="bold" if each.passed else None)
    return shown


def main() -> int:
    """Find and print the limits; return 1 if an input cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--audio", type=Path, required=True, metavar="FILE", help="what each stream plays")
    parser.add_argument("--model", default="en-small", help="a model or a size (%(default)s)")
    parser.add_argument("--device", default="cuda", help="%(default)s")
    parser.add_argument("--latency-ms", type=int, nargs="+", default=[160, 560, 1120], help="%(default)s")
    parser.add_argument("--duration", type=float, default=20.0, help="seconds of each trial (%(default)s)")
    parser.add_argument("--first", type=int, default=64, help="the first number of streams (%(default)s)")
    parser.add_argument("--most", type=int, default=4096, help="the last number of streams (%(default)s)")
    args = parser.parse_args()
    trials: list[Trial] = []
    try:
        pcm = read_pcm(args.audio)
        with model_of(args.model) as folder:
            model = load_model(folder, args.device)
            for latency_ms in args.latency_ms:
                measure = partial(trial, model, pcm, latency_ms, duration_s=args.duration)
                trials += find_limit(measure, args.first, args.most)
    except StreamasrError as error:
        print(f"gpu_streams: {error.message}", file=sys.stderr)
        return 1
    Console(width=100).print(table(trials))
    limits = {
        latency_ms: max(
            (each.streams for each in trials if each.passed and each.latency_ms == latency_ms), default=0
        )
        for latency_ms in args.latency_ms
    }
    report = {"model": args.model, "device": args.device, "limits": limits}
    print(json.dumps({"benchmark": "gpu_streams", **report, "trials": [asdict(each) for each in trials]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
