"""Write ``report.html``, a page about a run, from the run's log and its evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from operator import attrgetter
from pathlib import Path

from streamasr.report import html
from streamasr.report.evaluation_page import evaluation_sections
from streamasr.report.results import EVALUATION_FILE, Evaluation, Unit, read_evaluation
from streamasr.report.svg import Curve, line_chart
from streamasr.training.monitoring.events import DevReport, Diagnosis, Event, RunStarted, StepReport
from streamasr.training.monitoring.log import EVENTS_FILE, read_events

REPORT_FILE = "report.html"
"""Name of the page in a run's folder."""

Read = Callable[[StepReport], float]
LOSS_PARTS: tuple[tuple[str, Read], ...] = (
    ("total", lambda s: s.loss),
    ("CTC", lambda s: s.ctc),
    ("CTC-CRF", lambda s: s.crf),
    ("intermediate CTC", lambda s: s.intermediate),
    ("consistency", lambda s: s.consistency),
    ("distillation", lambda s: s.distillation),
)


def write_page(run: Path, out: Path | None = None) -> Path:
    """Write the page of a run and return its path.

    Args:
        run: the run's folder.
        out: the file to write; ``report.html`` in the run's folder by default.

    Raises:
        DataError: the folder has no log, or its log or evaluation cannot be read.
    """
    events = read_events(run / EVENTS_FILE)
    evaluation_file = run / EVALUATION_FILE
    evaluation = read_evaluation(evaluation_file) if evaluation_file.is_file() else None
    out = out or run / REPORT_FILE
    partial = out.with_name(out.name + ".partial")
    partial.write_text(run_page(events, evaluation), encoding="utf-8")
    partial.replace(out)
    return out


def run_page(events: Sequence[Event], evaluation: Evaluation | None = None) -> str:
    """Return a self-contained page about a run, from its events so far."""
    started = next((e for e in reversed(events) if isinstance(e, RunStarted)), None)
    steps = [e for e in events if isinstance(e, StepReport)]
    dev = [e for e in events if isinstance(e, DevReport)]
    diagnoses = [e for e in events if isinstance(e, Diagnosis)]
    name = started.name if started is not None else "training run"
    frame_ms = started.frame_ms if started is not None else 0.0
    unit: Unit = started.unit if started is not None else "word"
    parts = [f"<h1>{escape(name)}</h1>", _lead(started, steps), _figures(steps, dev, frame_ms, unit)]
    if diagnoses:
        parts += ["<h2>Problems</h2>", *map(_diagnosis_card, diagnoses)]
    parts += ["<h2>Training</h2>", html.grid(2, _curves(steps))]
    if dev:
        parts += [
            "<h2>Dev sets during training (greedy decoding, averaged weights)</h2>",
            html.grid(2, _dev_curves(dev, frame_ms)),
        ]
        parts += ["<h2>Sample utterances over time</h2>", html.MARKS, html.grid(2, _samples(dev, unit))]
    if evaluation is not None:
        parts.append(evaluation_sections(evaluation))
    if started is not None and started.recipe:
        parts += ["<h2>Recipe</h2>", f'<div class="card"><pre>{escape(started.recipe)}</pre></div>']
    return html.document(f"{name}: training report", "\n".join(parts))


def _lead(started: RunStarted | None, steps: Sequence[StepReport]) -> str:
    if not steps:
        return '<p class="lead">No steps reported yet.</p>'
    done, hours = steps[-1].step, steps[-1].hours
    of = f" of {started.steps:,}" if started is not None else ""
    return f'<p class="lead">{done:,}{of} steps, {hours:.1f} hours of audio</p>'


def _figures(steps: Sequence[StepReport], dev: Sequence[DevReport], frame_ms: float, unit: Unit) -> str:
    figures = []
    name, read = ("CER", attrgetter("cer")) if unit == "character" else ("WER", attrgetter("wer"))
    for manifest in dict.fromkeys(report.manifest for report in dev):
        last = [r for r in dev if r.manifest == manifest]
        last = [r for r in last if r.step == last[-1].step]
        best = min(last, key=read)
        figures.append((f"{read(best):.1%}", f"{name}, {manifest}, {_chunk(best, frame_ms)}, greedy"))
    if steps:
        figures.append((f"{steps[-1].ctc:.3f}", "CTC loss per frame"))
        figures.append((f"{steps[-1].blank_share:.0%}", "of frames are blank"))
        figures.append((f"{steps[-1].speed:,.0f} ×", "real time"))
        if steps[-1].unalignable:
            figures.append((f"{steps[-1].unalignable:,}", "rows with too few frames for their text"))
    return html.tiles(figures) if figures else ""


def _diagnosis_card(diagnosis: Diagnosis) -> str:
    return (
        f'<div class="card diagnosis"><b>Step {diagnosis.step:,}: {escape(diagnosis.finding)}</b>'
        f"<div>Likely cause: {escape(diagnosis.cause)}</div>"
        f"<div>Remedy: {escape(diagnosis.remedy)}</div></div>"
    )


def _curve(steps: Sequence[StepReport], read: Read, name: str = "") -> Curve:
    return Curve(name, tuple((s.step, read(s)) for s in steps))


def _curves(steps: Sequence[StepReport]) -> list[str]:
    losses = [_curve(steps, read, name) for name, read in LOSS_PARTS]
    used = [c for c in losses if any(value for _, value in c.points)]
    if [c.name for c in used] == ["total", "CTC"] and used[0].points == used[1].points:
        del used[0]

    def single(read: Read, y_format: Callable[[float], str], *, logarithmic: bool = False) -> str:
        return line_chart([_curve(steps, read)], x_label="step", y_format=y_format, logarithmic=logarithmic)

    return [
        html.card("Loss per frame", line_chart(used, x_label="step")),
        html.card("Learning rate", single(lambda s: s.learning_rate, lambda y: f"{y:.1e}")),
        html.card("Share of blank frames", single(lambda s: s.blank_share, lambda y: f"{y:.0%}")),
        html.card(
            "Gradient norm, before clipping",
            single(lambda s: s.gradient_norm, lambda y: f"{y:.3g}", logarithmic=True),
        ),
        html.card(
            "Throughput, seconds of audio per second", single(lambda s: s.speed, lambda y: f"{y:,.0f}")
        ),
        html.card("Share of padding in the batches", single(lambda s: s.padding_share, lambda y: f"{y:.0%}")),
    ]


def _chunk(report: DevReport, frame_ms: float) -> str:
    if not frame_ms:
        return f"{report.chunk_frames} frames"
    return f"{report.chunk_frames * frame_ms:.0f} ms"


def _dev_curves(dev: Sequence[DevReport], frame_ms: float) -> list[str]:
    reads: tuple[tuple[str, Callable[[DevReport], float], Callable[[float], str]], ...] = (
        ("WER", lambda r: r.wer, lambda y: f"{y:.0%}"),
        ("CER", lambda r: r.cer, lambda y: f"{y:.0%}"),
        ("Loss per frame", lambda r: r.loss, lambda y: f"{y:.3g}"),
    )
    cards = []
    for manifest in dict.fromkeys(report.manifest for report in dev):
        theirs = [r for r in dev if r.manifest == manifest]
        for name, read, y_format in reads:
            curves = [
                Curve(
                    f"{_chunk(next(r for r in theirs if r.chunk_frames == frames), frame_ms)} chunks",
                    tuple((r.step, read(r)) for r in theirs if r.chunk_frames == frames),
                )
                for frames in sorted({r.chunk_frames for r in theirs})
            ]
            chart = line_chart(curves, x_label="step", y_format=y_format, ordered=True)
            only_chunk = f", {curves[0].name}" if len(curves) == 1 else ""
            cards.append(html.card(f"{name}, {manifest}{only_chunk}", chart))
    return cards


def _samples(dev: Sequence[DevReport], unit: Unit) -> list[str]:
    """Return a card per manifest: its samples in the first, middle and last report at the largest chunk size."""
    cards = []
    for manifest in dict.fromkeys(r.manifest for r in dev if r.samples):
        largest = max(r.chunk_frames for r in dev if r.manifest == manifest)
        reports = [r for r in dev if r.manifest == manifest and r.chunk_frames == largest and r.samples]
        shown = sorted({0, len(reports) // 2, len(reports) - 1})
        body = []
        for number, (reference, _) in enumerate(reports[-1].samples):
            body.append(f'<div class="pair"><div>{escape(reference)}</div><small>reference</small></div>')
            for report in (reports[i] for i in shown):
                if number < len(report.samples):
                    body.append(
                        html.pair(reference, report.samples[number][1], f"step {report.step:,}", unit)
                    )
        cards.append(html.card(manifest, "".join(body)))
    return cards
