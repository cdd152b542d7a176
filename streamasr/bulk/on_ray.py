"""Recognise rows on a Ray cluster with Ray Data: actors hold the model, and this process collects the outcomes."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from streamasr.bulk.recogniser import Outcome
from streamasr.bulk.worker import BulkOptions, BulkWorker
from streamasr.errors import ConfigError
from streamasr.media.inputs import AudioInput

ROWS_PER_TASK = 64
"""Rows that an actor recognises in one task. If its process dies, these are recognised again."""


class Cluster:
    """A connection to a Ray cluster.

    Args:
        address: the cluster's address; empty for the one that ``RAY_ADDRESS`` names or that runs on this machine,
            else a new one on this machine, which ends with this process.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
            import ray.data
        except ImportError as error:
            raise ConfigError(f"--ray needs Ray Data: pip install 'streamasr[ray]' ({error})") from None
        self._ray: Any = ray  # its types are incomplete, and it may be absent
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            ray.init(
                address=address or None, include_dashboard=False if not address else None,
                logging_level=logging.ERROR, log_to_driver=False,
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as error:
            where = address or "this machine"
            raise ConfigError(f"--ray: no cluster at {where}: {str(error).splitlines()[0]}") from None

    def recognise(
        self, indices: Sequence[int], source: Callable[[int], AudioInput], options: BulkOptions
    ) -> Iterator[Outcome]:
        """Yield the outcome of each row, once, as tasks finish.

        A task whose process dies is run again. Rows whose task died each time are then run alone, so that a file
        that kills its process fails alone.

        Args:
            indices: the rows, those of similar length next to one another.
            source: returns the audio of a row, which all machines must be able to open.
            options: how to recognise; ``workers`` are the threads, and the CPUs, of one actor.
        """
        missing = list(indices)
        for rows_per_task in (ROWS_PER_TASK, 1):
            found: set[int] = set()
            for outcome in self._pass(missing, source, options, rows_per_task):
                if outcome.index not in found:
                    found.add(outcome.index)
                    yield outcome
            missing = [index for index in missing if index not in found]
            if not missing:
                return
        for index in missing:
            yield Outcome(
                index, options.retries + 1, error="the process that recognised this file died each time"
            )

    def close(self) -> None:
        """Disconnect; end a cluster that was started."""
        self._ray.shutdown()

    def _pass(
        self,
        indices: Sequence[int],
        source: Callable[[int], AudioInput],
        options: BulkOptions,
        rows_per_task: int,
    ) -> Iterator[Outcome]:
        data = self._ray.data
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        context.max_errored_blocks = -1  # rows of tasks that failed are run again
        threads = options.workers or 1
        on_gpu = options.device.startswith("cuda")
        resources: dict[str, float] = self._ray.cluster_resources()
        total = resources.get("GPU", 0) if on_gpu else resources.get("CPU", 1) / threads
        tasks = -(-len(indices) // rows_per_task)
        items = [{"index": index, "source": pickle.dumps(source(index))} for index in indices]
        rows = data.from_items(items, override_num_blocks=tasks)
        outcomes = rows.map_batches(
            _Actor,
            fn_constructor_args=(options,),
            batch_size=rows_per_task,
            compute=data.ActorPoolStrategy(size=max(1, min(int(total), tasks))),
            num_cpus=threads,
            num_gpus=1 if on_gpu else 0,
            ray_remote_args_fn=lambda: {"max_restarts": -1, "max_task_retries": options.retries},
        )
        for batch in outcomes.iter_batches(batch_size=None, batch_format="numpy"):
            for pickled in batch["outcome"]:
                yield pickle.loads(pickled)


class _Actor:
    """Recognises batches of rows in a process of the cluster."""

    def __init__(self, options: BulkOptions) -> None:
        self._worker = BulkWorker(options)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        sources = dict(zip(batch["index"].tolist(), map(pickle.loads, batch["source"]), strict=True))
        recogniser = self._worker.recognise(sources, sources.__getitem__)
        try:
            pickled = [pickle.dumps(outcome) for outcome in recogniser.outcomes() if outcome is not None]
        finally:
            recogniser.stop()
        return {"outcome": np.array(pickled, dtype=object)}
