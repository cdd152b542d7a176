"""Test the error analysis."""

from __future__ import annotations

from streamasr.report.analysis import MOST_FREQUENT, WORST, Group, analyse
from streamasr.report.results import RecognisedUtterance
from streamasr.scoring import Edits


def answer(reference: str, hypothesis: str, speaker: str = "") -> RecognisedUtterance:
    return RecognisedUtterance(
        audio="a.wav", seconds=1.0, reference=reference, hypothesis=hypothesis, speaker=speaker
    )


def test_errors_are_counted_by_kind() -> None:
    found = analyse(
        [
            answer("the cat sat", "the bat sat"),
            answer("a cat", "a bat"),
            answer("the end", "end"),
            answer("go", "go now"),
            answer("fine", "fine"),
        ]
    )
    assert found.edits == Edits(2, 1, 1, 9)
    assert found.substitutions == (("cat → bat", 2),)
    assert found.insertions == (("now", 1),)
    assert found.deletions == (("the", 1),)
    assert found.confusions[0] == ("c → b", 2)
    assert ("∅ → ␣", 1) in found.confusions
    assert (found.exact, found.utterances) == (1, 5)


def test_the_most_frequent_errors_and_worst_utterances_come_first_and_are_limited() -> None:
    answers = [answer(f"w{i}", f"v{i}") for i in range(MOST_FREQUENT + 9)]
    answers += [answer("one two three", ""), answer("w0", "v0")]
    found = analyse(answers)
    assert len(found.substitutions) == MOST_FREQUENT
    assert found.substitutions[0] == ("w0 → v0", 2)
    assert found.worst[0] == (answers[-2], Edits(0, 0, 3, 3))
    assert len(found.worst) == WORST


def test_groups_by_length_and_speaker_count_all_words() -> None:
    answers = [
        answer("a", "a", "ann"),
        answer("a b", "a", "ann"),
        answer("a b c", "a b c", "bob"),
        answer(" ".join("x" * 50), "x", ""),
    ]
    found = analyse(answers)
    assert [(group.name, group.utterances) for group in found.by_length] == [
        ("0 – 1", 1),
        ("2", 1),
        ("3 – 5", 1),
        ("41 or more", 1),
    ]
    assert sum((group.edits for group in found.by_length), Edits()) == found.edits
    assert found.by_speaker == (Group("ann", 2, Edits(0, 0, 1, 3)), Group("bob", 1, Edits(0, 0, 0, 3)))


def test_errors_are_counted_in_characters_for_languages_without_spaces() -> None:
    found = analyse([answer("你好 世界", "你好世间")], "character")
    assert found.edits == Edits(1, 0, 0, 4)
    assert found.substitutions == found.confusions == (("界 → 间", 1),)
