"""Which errors a model makes: counts, the most frequent of each kind, and where they gather.

Works on :class:`~streamasr.report.results.RecognisedUtterance` values; knows no model and no page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamasr.report.results import RecognisedUtterance, Unit
from streamasr.scoring import Edits, align, count_edits

LENGTH_BOUNDS = (1, 2, 5, 10, 20, 40)
"""Utterances are grouped by their words (or characters): up to the first, up to the second … and longer ones."""
MOST_FREQUENT = 15
WORST = 20

Frequencies = tuple[tuple[str, int], ...]
"""Something and how often it was, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the utterances, under one name."""

    name: str
    utterances: int
    edits: Edits


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnalysis:
    """The errors of a set of answers, counted in ``unit``."""

    unit: Unit
    edits: Edits
    exact: int
    """Utterances without an error."""
    utterances: int
    substitutions: Frequencies
    """``was → heard as``."""
    insertions: Frequencies
    deletions: Frequencies
    confusions: Frequencies
    """Of characters, ``was → heard as``; with ∅ for nothing and ␣ for a space."""
    by_length: tuple[Group, ...]
    by_speaker: tuple[Group, ...]
    """The worst first; empty where no speaker is known."""
    worst: tuple[tuple[RecognisedUtterance, Edits], ...]
    """The utterances with the most errors."""


def analyse(answers: Sequence[RecognisedUtterance], unit: Unit = "word") -> ErrorAnalysis:
    """Look into the errors of ``answers``."""
    substitutions: Counter[str] = Counter()
    insertions: Counter[str] = Counter()
    deletions: Counter[str] = Counter()
    confusions: Counter[str] = Counter()
    edits: list[Edits] = []
    for answer in answers:
        reference, hypothesis = scoring_units(answer.reference, unit), scoring_units(answer.hypothesis, unit)
        edits.append(count_edits(reference, hypothesis))
        if not edits[-1].errors:
            continue
        for was, heard in align(reference, hypothesis):
            if was is None and heard is not None:
                insertions[heard] += 1
            elif was is not None and heard is None:
                deletions[was] += 1
            elif was != heard:
                substitutions[f"{was} → {heard}"] += 1
        confusions.update(_confused_characters(answer, unit))
    pairs = list(zip(answers, edits, strict=True))
    wrong = [pair for pair in pairs if pair[1].errors]
    return ErrorAnalysis(
        unit=unit,
        edits=sum(edits, Edits()),
        exact=len(answers) - len(wrong),
        utterances=len(answers),
        substitutions=_most(substitutions),
        insertions=_most(insertions),
        deletions=_most(deletions),
        confusions=_most(confusions),
        by_length=_by_length(pairs),
        by_speaker=_by_speaker(pairs),
        worst=tuple(sorted(wrong, key=lambda pair: (-pair[1].errors, -pair[1].rate))[:WORST]),
    )


def scoring_units(text: str, unit: Unit) -> list[str]:
    """A text's words, or its characters without the spaces."""
    return text.split() if unit == "word" else list(text.replace(" ", ""))


def _confused_characters(answer: RecognisedUtterance, unit: Unit) -> Iterable[str]:
    reference, hypothesis = answer.reference, answer.hypothesis
    if unit == "character":
        reference, hypothesis = reference.replace(" ", ""), hypothesis.replace(" ", "")
    for was, heard in align(reference, hypothesis):
        if was != heard:
            yield f"{_visible(was)} → {_visible(heard)}"


def _visible(character: str | None) -> str:
    if character is None:
        return "∅"
    return "␣" if character == " " else character


def _most(counter: Counter[str]) -> Frequencies:
    """Equally frequent ones in alphabetical order, so that equal answers give equal pages."""
    return tuple(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:MOST_FREQUENT])


def _by_length(pairs: Sequence[tuple[RecognisedUtterance, Edits]]) -> tuple[Group, ...]:
    groups = []
    low = 0
    for high in (*LENGTH_BOUNDS, None):
        inside = [e for _, e in pairs if e.length >= low and (high is None or e.length <= high)]
        if inside:
            name = f"{low} and more" if high is None else f"{low} – {high}" if low < high else str(high)
            groups.append(Group(name, len(inside), sum(inside, Edits())))
        low = (high or 0) + 1
    return tuple(groups)


def _by_speaker(pairs: Sequence[tuple[RecognisedUtterance, Edits]]) -> tuple[Group, ...]:
    speakers: dict[str, list[Edits]] = {}
    for answer, edits in pairs:
        if answer.speaker:
            speakers.setdefault(answer.speaker, []).append(edits)
    groups = [Group(name, len(theirs), sum(theirs, Edits())) for name, theirs in speakers.items()]
    return tuple(sorted(groups, key=lambda group: (-group.edits.rate, group.name)))
