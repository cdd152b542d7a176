"""Analyse the errors of a model: counts, the most frequent ones of each kind, and rates by length and speaker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from streamasr.report.results import RecognisedUtterance, Unit
from streamasr.scoring import Edits, align, count_edits

LENGTH_BOUNDS = (1, 2, 5, 10, 20, 40)
"""Upper bounds, in words or characters, of the groups of utterances by length; longer utterances are a last group."""
MOST_FREQUENT = 15
"""Number of errors of each kind that are listed."""
WORST = 20
"""Number of utterances with the most errors that are listed."""

Frequencies = tuple[tuple[str, int], ...]
"""(item, count) pairs, the most frequent first."""


@dataclass(frozen=True, slots=True)
class Group:
    """The errors of a named group of utterances."""

    name: str
    utterances: int
    edits: Edits


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnalysis:
    """The errors of a set of utterances, counted in ``unit``."""

    unit: Unit
    edits: Edits
    exact: int
    """Number of utterances without errors."""
    utterances: int
    substitutions: Frequencies
    """Items such as ``expected → recognised``."""
    insertions: Frequencies
    deletions: Frequencies
    confusions: Frequencies
    """Confused characters, such as ``expected → recognised``, with ∅ for no character and ␣ for a space."""
    by_length: tuple[Group, ...]
    by_speaker: tuple[Group, ...]
    """One group per speaker, the highest error rate first; empty without speaker names."""
    worst: tuple[tuple[RecognisedUtterance, Edits], ...]
    """The utterances with the most errors, the most first."""


def analyse(answers: Sequence[RecognisedUtterance], unit: Unit = "word") -> ErrorAnalysis:
    """Analyse the errors of recognised utterances.

    Args:
        answers: the utterances.
        unit: whether errors are counted in words or in characters.
    """
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
        for expected, recognised in align(reference, hypothesis):
            if expected is None and recognised is not None:
                insertions[recognised] += 1
            elif expected is not None and recognised is None:
                deletions[expected] += 1
            elif expected != recognised:
                substitutions[f"{expected} → {recognised}"] += 1
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
    """Return the words of a text, or its characters without spaces."""
    return text.split() if unit == "word" else list(text.replace(" ", ""))


def _confused_characters(answer: RecognisedUtterance, unit: Unit) -> Iterable[str]:
    reference, hypothesis = answer.reference, answer.hypothesis
    if unit == "character":
        reference, hypothesis = reference.replace(" ", ""), hypothesis.replace(" ", "")
    for expected, recognised in align(reference, hypothesis):
        if expected != recognised:
            yield f"{_visible(expected)} → {_visible(recognised)}"


def _visible(character: str | None) -> str:
    if character is None:
        return "∅"
    return "␣" if character == " " else character


def _most(counter: Counter[str]) -> Frequencies:
    """Return the most frequent items; equally frequent ones are in alphabetical order, to be deterministic."""
    return tuple(sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:MOST_FREQUENT])


def _by_length(pairs: Sequence[tuple[RecognisedUtterance, Edits]]) -> tuple[Group, ...]:
    groups = []
    low = 0
    for high in (*LENGTH_BOUNDS, None):
        inside = [e for _, e in pairs if e.length >= low and (high is None or e.length <= high)]
        if inside:
            name = f"{low} or more" if high is None else f"{low} – {high}" if low < high else str(high)
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
