"""Write the measured part of a model card: tables between two markers in the model folder's ``README.md``.

Text outside the markers is not changed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path

from streamasr.errors import DataError
from streamasr.report.results import Evaluation, Measurement
from streamasr.scoring import Interval

CARD_FILE = "README.md"
BEGIN = "<!-- measured: `streamasr model card` writes from here … -->"
END = "<!-- … to here -->"

_COLUMNS = 100
"""Width to which text is wrapped."""
_MODES = {
    "beam+lm": "Beam search with the language model",
    "beam": "Beam search without a language model",
    "greedy": "Greedy, without a language model",
    "pyctcdecode": "pyctcdecode, as a reference",
}
"""Headings of the tables, in order."""
_FILES = (
    ("model.safetensors", "weights"),
    ("lm.bin", "language model"),
    ("unigrams.txt", "word list"),
    ("neural_lm.safetensors", "neural language model"),
)


def write_card(folder: Path, evaluations: Sequence[Evaluation], name: str) -> Path:
    """Replace the measured block in ``folder/README.md``; without a card, create one.

    Args:
        folder: the model folder.
        evaluations: at least one evaluation. If two have the same measurement, the later one in the list counts.
        name: name of the model.

    Returns:
        The path of the card.

    Raises:
        DataError: an evaluation is of another model, or the card has only one of the two markers.
    """
    for evaluation in evaluations:
        if evaluation.model != name:
            raise DataError(f"an evaluation of {evaluation.model!r} does not belong in the card of {name!r}")
    path = folder / CARD_FILE
    text = path.read_text(encoding="utf-8") if path.is_file() else f"# {name}\n"
    block = f"{BEGIN}\n\n{measured_block(folder, evaluations)}\n\n{END}"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if bool(begin) != bool(end) or (not begin and END in text):
        raise DataError(f"{path}: must have both markers or none: {BEGIN!r}, then {END!r}")
    text = f"{before}{block}{after}" if begin else f"{text.rstrip()}\n\n{block}\n"
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def measured_block(folder: Path, evaluations: Sequence[Evaluation], lacks: Collection[str] = ()) -> str:
    """Return the tables as Markdown: error rates by chunk size and manifest, cost and sizes, and the machines.

    Args:
        folder: the model folder, for the sizes of its files.
        evaluations: at least one.
        lacks: files of the folder that the measured model had not.
    """
    latest: dict[tuple[str, int | None, str], Measurement] = {}
    for evaluation in evaluations:
        for m in evaluation.measurements:
            latest[m.manifest, m.chunk_ms, m.mode] = m
    found = list(latest.values())
    unit = evaluations[-1].unit
    rate = "Character" if unit == "character" else "Word"
    modes = [mode for mode in _MODES if any(m.mode == mode for m in found)]
    introduction = (
        f"{rate} error rates on speech that was not used in training, streamed with the code of the daemon, with "
        "95 % bootstrap intervals over utterances."
    )
    parts = ["## Measured", textwrap.fill(introduction, _COLUMNS)]
    for mode in modes:
        rows = [m for m in found if m.mode == mode]
        manifests = list(dict.fromkeys(m.manifest for m in rows))
        header = [_MODES[mode], *(_described(name, rows) for name in manifests)]
        body = []
        for chunk_ms in _chunks(rows):
            cells = {m.manifest: _percent(m.headline(unit)) for m in rows if m.chunk_ms == chunk_ms}
            body.append([_chunk(chunk_ms), *(cells.get(name, "") for name in manifests)])
        parts.append(_table(header, body))
    cost = [
        [_chunk(chunk_ms), *(_cost(found, chunk_ms, mode) for mode in modes)] for chunk_ms in _chunks(found)
    ]
    parts.append(_table(["CPU seconds per second of audio", *modes], cost))
    parts.append(_sizes(folder, evaluations[-1].parameters, lacks))
    places = dict.fromkeys(f"{e.date}: {e.machine}" for e in evaluations)
    parts.append(textwrap.fill("Measured " + "; ".join(places) + ".", _COLUMNS))
    return "\n\n".join(parts)


def _chunks(measurements: Sequence[Measurement]) -> list[int | None]:
    """Return the chunk sizes in ascending order, offline (``None``) last."""
    sizes = {m.chunk_ms for m in measurements}
    rising: list[int | None] = [*sorted(size for size in sizes if size is not None)]
    return [*rising, *([None] if None in sizes else [])]


def _chunk(chunk_ms: int | None) -> str:
    return "offline (whole utterances)" if chunk_ms is None else f"{chunk_ms} ms chunks"


def _described(manifest: str, measurements: Sequence[Measurement]) -> str:
    m = next(m for m in measurements if m.manifest == manifest)
    return f"{manifest} ({m.utterances:,} utterances, {m.audio_s / 60:.0f} min)"


def _percent(rate: Interval) -> str:
    return f"{rate.value:.1%} ({100 * rate.low:.1f} – {100 * rate.high:.1f})".replace("%", " %")


def _cost(measurements: Sequence[Measurement], chunk_ms: int | None, mode: str) -> str:
    """Return the CPU seconds per second of audio over all manifests."""
    those = [m for m in measurements if m.chunk_ms == chunk_ms and m.mode == mode]
    if not those:
        return ""
    return f"{sum(m.cpu * m.audio_s for m in those) / sum(m.audio_s for m in those):.3f}"


def _sizes(folder: Path, parameters: int, lacks: Collection[str]) -> str:
    count = f"{parameters / 1e6:.1f} M" if parameters >= 1_000_000 else f"{parameters:,}"
    rows = [["encoder", f"{count} parameters"]]
    for file, what in _FILES:
        if file not in lacks and (folder / file).is_file():
            rows.append([what, f"{(folder / file).stat().st_size / 1e6:.1f} MB"])
    return _table(["size", ""], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
