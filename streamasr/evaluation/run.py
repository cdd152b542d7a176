"""Evaluate a finished training run on its dev manifests, and update its evaluation, model card and page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from streamasr.evaluation.decoding_pass import Mode
from streamasr.evaluation.evaluate import EvaluationOptions, Progress, evaluate, passes, read_manifests
from streamasr.recognition.model import load_model
from streamasr.report.card import write_card
from streamasr.report.results import EVALUATION_FILE, Evaluation
from streamasr.training.monitoring.log import EVENTS_FILE
from streamasr.training.monitoring.run_page import write_page

OPTIONS = EvaluationOptions(chunk_ms=None, offline=True, modes=(Mode.GREEDY,))
"""Every latency and offline; greedy, since a new model folder has no language model."""


Watch = Callable[[int], AbstractContextManager[Progress]]
"""Takes the number of utterances to recognise and returns the progress callback, as a context manager."""


@contextmanager
def _unwatched(_count: int) -> Iterator[Progress]:
    yield lambda _name, _chunk_ms: None


def evaluate_run(
    run: Path, manifests: Sequence[Path], device: str = "auto", watch: Watch = _unwatched
) -> Evaluation | None:
    """Measure ``run/model``; write ``run/evaluation.json``, the model card and, if there is a log, the page.

    Args:
        run: a finished run's folder.
        manifests: its dev manifests; with none, nothing is measured or written.
        device: where to compute.
        watch: shows progress.

    Raises:
        ModelError: the run has no complete model folder.
        DataError: a manifest or its audio cannot be used.
    """
    if not manifests:
        return None
    model = load_model(run / "model", device)
    utterances = read_manifests(manifests)
    with watch(sum(map(len, utterances.values())) * len(passes(model, OPTIONS))) as progress:
        evaluation = evaluate(model, utterances, OPTIONS, progress)
    partial = run / f"{EVALUATION_FILE}.partial"
    partial.write_text(evaluation.to_json(), encoding="utf-8")
    partial.replace(run / EVALUATION_FILE)
    write_card(run / "model", [evaluation], model.config.name)
    if (run / EVENTS_FILE).is_file():
        write_page(run)
    return evaluation
