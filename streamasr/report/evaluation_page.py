"""Write an evaluation as HTML: a table of its error rates, and an analysis of the errors on each manifest."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from streamasr.report import html
from streamasr.report.analysis import ErrorAnalysis, Frequencies, Group, analyse
from streamasr.report.results import Evaluation, Measurement, Unit, select_measurement
from streamasr.report.svg import Curve, bar_chart, line_chart
from streamasr.scoring import Interval

SPEAKERS = 15
"""Number of speakers shown, those with the highest error rates."""


def evaluation_page(evaluation: Evaluation) -> str:
    """Return a self-contained page about an evaluation."""
    lead = f"{evaluation.date} · {evaluation.machine}"
    body = f'<h1>{escape(evaluation.model)}</h1><p class="lead">{escape(lead)}</p>' + evaluation_sections(
        evaluation
    )
    return html.document(f"{evaluation.model}: evaluation", body)


def evaluation_sections(evaluation: Evaluation) -> str:
    """Return the sections of a page about an evaluation: the error rates, and the errors on each manifest."""
    parts = [f"<h2>{_rate_name(evaluation.unit)} by chunk size</h2>", _rates(evaluation)]
    for manifest in manifests_of(evaluation):
        measured = [m for m in evaluation.measurements if m.manifest == manifest]
        parts.append(_errors(evaluation, select_measurement(measured)))
    return "\n".join(parts)


def manifests_of(evaluation: Evaluation) -> list[str]:
    """Return the names of the manifests in the order in which they were measured."""
    return list(dict.fromkeys(m.manifest for m in evaluation.measurements))


def chunk_name(chunk_ms: int | None) -> str:
    """Return the name of a chunk size: ``640 ms``, or ``offline`` for ``None``."""
    return "offline" if chunk_ms is None else f"{chunk_ms} ms"


def percent(interval: Interval) -> str:
    """Return a rate with its confidence interval, in percent."""
    return f"{interval.value:.1%} ({100 * interval.low:.1f} – {100 * interval.high:.1f})"


def _rate_name(unit: Unit) -> str:
    return "CER" if unit == "character" else "WER"


def _rates(evaluation: Evaluation) -> str:
    header = [
        "manifest (utterances)",
        "chunk",
        "decoding",
        "WER (95 % interval)",
        "CER (95 % interval)",
        "sub",
        "ins",
        "del",
        "RTF",
        "CPU s per audio s",
    ]
    rows = []
    for m in evaluation.measurements:
        edits = m.characters if evaluation.unit == "character" else m.words
        counts = [str(edits.substitutions), str(edits.insertions), str(edits.deletions)]
        cost = [f"{m.rtf.value:.3f}", f"{m.cpu:.3f}"]
        name = f"{m.manifest} ({m.utterances})"
        rows.append([name, chunk_name(m.chunk_ms), m.mode, percent(m.wer), percent(m.cer), *counts, *cost])
    rates = html.card("Error rates and computing time", html.table(header, rows))
    if len({m.chunk_ms for m in evaluation.measurements} - {None}) < 2:
        return rates
    rate = _rate_name(evaluation.unit)
    charts = [
        html.card(f"{rate} by chunk size, {name}", _by_chunk(evaluation, name))
        for name in manifests_of(evaluation)
    ]
    return rates + html.grid(2, charts)


def _by_chunk(evaluation: Evaluation, manifest: str) -> str:
    curves: dict[str, list[tuple[float, float]]] = {}
    for m in evaluation.measurements:
        if m.manifest == manifest and m.chunk_ms is not None:
            curves.setdefault(m.mode, []).append((m.chunk_ms, m.headline(evaluation.unit).value))
    drawn = [Curve(mode, tuple(sorted(points))) for mode, points in curves.items()]
    return line_chart(drawn, x_label="chunk size in ms", y_format=lambda y: f"{y:.1%}")


def _errors(evaluation: Evaluation, measured: Measurement) -> str:
    found = analyse(measured.answers, evaluation.unit)
    unit = f"{found.unit}s"
    where = f"{measured.manifest}, {chunk_name(measured.chunk_ms)}, {measured.mode}"
    edits = found.edits
    figures = [
        (f"{edits.rate:.1%}", _rate_name(found.unit)),
        (f"{edits.substitutions:,}", "substitutions"),
        (f"{edits.insertions:,}", "insertions"),
        (f"{edits.deletions:,}", "deletions"),
        (
            f"{found.exact / max(1, found.utterances):.0%}",
            f"of {found.utterances:,} utterances without errors",
        ),
    ]
    cards = [
        html.card("Most frequent substitutions", _frequencies(found.substitutions)),
        html.card("Most frequent insertions", _frequencies(found.insertions)),
        html.card("Most frequent deletions", _frequencies(found.deletions)),
        html.card("Confused characters", _frequencies(found.confusions)),
        html.card(f"By length, in {unit}", _groups(found.by_length, unit)),
    ]
    if found.by_speaker:
        more = len(found.by_speaker) - SPEAKERS
        rest = f'<p class="none">and {more} speakers with lower rates</p>' if more > 0 else ""
        cards.append(html.card("By speaker", _groups(found.by_speaker[:SPEAKERS], unit) + rest))
    return (
        f"<h2>Errors: {escape(where)}</h2>{html.tiles(figures)}{html.grid(3, cards)}"
        f"<h3 style='margin-top:16px'>Worst utterances</h3>{html.MARKS}{_worst(found)}"
    )


def _frequencies(tally: Frequencies) -> str:
    return bar_chart([(name, float(count), f"{count:,}") for name, count in tally])


def _groups(groups: Sequence[Group], unit: str) -> str:
    rows = []
    for group in groups:
        edits = group.edits
        label = f"{edits.rate:.1%} of {edits.length:,} {unit}, {group.utterances:,} utt."
        rows.append((group.name, edits.rate, label))
    return bar_chart(rows)


def _worst(found: ErrorAnalysis) -> str:
    if not found.worst:
        return '<p class="none">All utterances are correct.</p>'
    shown = [
        html.pair(
            answer.reference,
            answer.hypothesis,
            f"{edits.errors} {'error' if edits.errors == 1 else 'errors'} in {edits.length} {found.unit}s"
            f" · {answer.seconds:.1f} s · {answer.audio}"
            + (f" · speaker {answer.speaker}" if answer.speaker else ""),
            found.unit,
        )
        for answer, edits in found.worst
    ]
    return f'<div class="card">{"".join(shown)}</div>'
