"""Test the conversion of finals to cues, SRT, WebVTT, text and JSON."""

from __future__ import annotations

import html
import io
import itertools
import json
from typing import Any

import pysubs2
import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from streamasr.cues import Cue, CueLimits, cues
from streamasr.errors import ConfigError
from streamasr.protocol.messages import Final, WordTiming
from streamasr.subtitles import SubtitleFile, to_json, to_srt, to_text, to_vtt
from tests.client.scripted import MakeFinal


def timed_final(*words: tuple[str, int, int], utterance: int = 0) -> Final:
    timings = tuple(WordTiming(word=w, start_ms=a, end_ms=b, confidence=1.0) for w, a, b in words)
    return Final(
        utterance=utterance,
        text=" ".join(word for word, _, _ in words),
        confidence=1.0,
        start_ms=timings[0].start_ms,
        end_ms=timings[-1].end_ms,
        words=timings,
    )


def test_srt_exactly(final: MakeFinal) -> None:
    text = (
        "it was followed by remorse i tried to drive it away i felt too sick and then the boat turned round "
        "and went slowly back to the shore where we had left the others"
    )
    assert to_srt([final(text, start_ms=3_599_000)]) == (
        "1\n"
        "00:59:59,000 --> 01:00:04,350\n"
        "it was followed by remorse i tried to\n"
        "drive it away i felt too sick and then the\n"
        "\n"
        "2\n"
        "01:00:04,400 --> 01:00:09,150\n"
        "boat turned round and went slowly back\n"
        "to the shore where we had left the others\n"
        "\n"
    )


def test_vtt_exactly_with_markup_escaped(final: MakeFinal) -> None:
    assert to_vtt([final("a <b> & c"), final("again", start_ms=90_061_001)]) == (
        "WEBVTT\n\n"
        "00:00:00.000 --> 00:00:01.150\na &lt;b&gt; &amp; c\n\n"
        "25:01:01.001 --> 25:01:02.001\nagain\n\n"
    )


def test_text_and_json(final: MakeFinal) -> None:
    finals = [final("one two"), final("", utterance=1), final("three", utterance=2)]
    assert to_text(finals) == "one two\nthree\n"
    read = json.loads(to_json(finals, file="a.wav"))
    assert list(read) == ["file", "text", "utterances"]
    assert read["text"] == "one two three"
    assert read["utterances"][0]["words"][1] == {
        "word": "two",
        "start_ms": 300,
        "end_ms": 550,
        "confidence": 0.9,
    }


def test_chinese_has_no_spaces_and_breaks_at_any_character() -> None:
    (cue,) = cues(
        [Final(utterance=0, text="今天天气很好", confidence=1.0, start_ms=0, end_ms=3_000, words=())]
    )
    assert cue.lines == ("今天天气很好",)
    timed = timed_final(
        *((character, index * 100, index * 100 + 90) for index, character in enumerate("今天天气很"))
    )
    assert [cue.lines for cue in cues([timed], CueLimits(line_chars=4))] == [("今天", "天气很")]


def test_no_finals_give_no_cues() -> None:
    assert cues([]) == []
    assert to_srt([]) == ""
    assert to_vtt([]) == "WEBVTT\n\n"


def test_a_cue_breaks_at_the_pause() -> None:
    words = [(f"word{index}", 400 * index, 400 * index + 350) for index in range(16)]
    late = [
        (word, start + 1_500 * (index >= 6), end + 1_500 * (index >= 6))
        for index, (word, start, end) in enumerate(words)
    ]
    found = cues([timed_final(*late)])
    assert [len(" ".join(cue.lines).split()) for cue in found] == [6, 10]
    assert [len(" ".join(cue.lines).split()) for cue in cues([timed_final(*words)])] == [8, 8]


@pytest.mark.parametrize("mark", [".", "?", ",", '."'])
def test_cues_and_lines_break_behind_marks(mark: str) -> None:
    texts = [f"word{index % 10}" + (mark if index in (5, 10) else "") for index in range(16)]
    timed = timed_final(*((text, 400 * at, 400 * at + 350) for at, text in enumerate(texts)))
    assert cues([timed])[0].lines[-1].split()[-1] in (f"word5{mark}", f"word0{mark}")
    two_lines = timed_final(*((text, 100 * at, 100 * at + 90) for at, text in enumerate(texts[:12])))
    (cue,) = cues([two_lines])
    assert cue.lines[0].endswith(f"word5{mark}")


def test_a_long_cue_is_split_by_time() -> None:
    found = cues([timed_final(*((f"w{i}", 2_000 * i, 2_000 * i + 1_500) for i in range(6)))])
    assert [cue.end_ms - cue.start_ms for cue in found] == [5_500, 5_500]


def test_short_cues_are_extended_without_overlap() -> None:
    found = cues([timed_final(("yes", 0, 200)), timed_final(("no", 600, 700), utterance=1)])
    assert found == [Cue(0, 600, ("yes",)), Cue(600, 1_600, ("no",))]


def test_a_word_longer_than_a_line_has_its_own_cue() -> None:
    found = cues([timed_final(("a", 0, 100), ("x" * 50, 200, 400), ("b", 500, 600))])
    assert [cue.lines for cue in found] == [("a",), ("x" * 50,), ("b",)]


def test_without_word_times_words_divide_the_utterance() -> None:
    final = Final(utterance=0, text="one three", confidence=1.0, start_ms=1_000, end_ms=3_000)
    limits = CueLimits(line_chars=5)
    found = cues([final], limits)
    assert [cue.lines for cue in found] == [("one", "three")]
    assert (found[0].start_ms, found[0].end_ms) == (1_000, 3_000)


WORDS = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 2_500), st.integers(0, 9_000)), min_size=1, max_size=40
)


@given(WORDS)
def test_every_cue_keeps_the_limits_and_no_word_is_lost(drawn: list[tuple[int, int, int]]) -> None:
    at, words = 0, []
    for length, gap, duration in drawn:
        words.append(("x" * length, at + gap, at + gap + duration))
        at += gap + duration
    found = cues([timed_final(*words)])
    assert " ".join(line for cue in found for line in cue.lines).split() == [word for word, _, _ in words]
    for cue in found:
        alone = len(" ".join(cue.lines).split()) == 1
        assert len(cue.lines) <= 2
        assert alone or max(map(len, cue.lines)) <= 42
        assert alone or cue.end_ms - cue.start_ms <= 7_000
    assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(found))


def test_two_utterances_that_begin_in_the_same_millisecond_are_both_shown() -> None:
    found = cues([timed_final(("yes", 500, 500)), timed_final(("no", 500, 500), utterance=1)])
    assert found == [Cue(500, 600, ("yes",)), Cue(600, 1_600, ("no",))]


def test_lines_and_durations_can_be_limited(final: MakeFinal) -> None:
    text = "it was followed by remorse i tried to drive it away"
    words = text.split()
    one_line = cues([final(text)], CueLimits(line_chars=12, lines=1))
    assert [cue.lines for cue in one_line] == [
        ("it was",),
        ("followed",),
        ("by remorse",),
        ("i tried",),
        ("to drive",),
        ("it away",),
    ]
    (three_lines,) = cues([final(text)], CueLimits(line_chars=20, lines=3))
    assert three_lines.lines == ("it was followed", "by remorse i tried", "to drive it away")
    short = cues([final(text)], CueLimits(cue_ms=900))
    assert [word for cue in short for line in cue.lines for word in line.split()] == words
    assert max(cue.end_ms - cue.start_ms for cue in short) <= 900


def test_a_word_longer_than_a_cue_may_last_is_shown_from_its_start() -> None:
    assert cues([timed_final(("hm", 1_000, 12_000))]) == [Cue(1_000, 8_000, ("hm",))]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"line_chars": 0}, "--max-line-chars: expected 1 to 1000, got 0"),
        ({"lines": 11}, "--max-lines: expected 1 to 10, got 11"),
        ({"cue_ms": 400}, "--max-cue-seconds: expected 0.5 to 600, got 0.4"),
    ],
)
def test_limits_out_of_range_are_refused(limits: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        CueLimits(**limits)
    assert refused.value.message == message


CHARACTERS = st.one_of(
    st.sampled_from("ab é今気<>&-\n\r\t\0\x0b\x1c\x85\u2028\ufeff\U0001f642"),
    # pysubs2 takes a last line of digits for the number of a next cue, and a backslash for its own line break
    st.characters(codec="utf-8", exclude_categories=["Nd"], exclude_characters="\\"),
)
TEXT = st.text(CHARACTERS, max_size=8)
SPOKEN = st.one_of(TEXT, st.sampled_from(["-->", "<b>", "&amp;", "word", "a -->", "NOTE", "WEBVTT", "STYLE"]))
LIMITS = st.builds(
    CueLimits,
    line_chars=st.integers(1, 60),
    lines=st.integers(1, 4),
    cue_ms=st.integers(500, 9_000),
)


@st.composite
def random_finals(draw: st.DrawFn) -> list[Final]:
    """Utterances in order of time; many begin together, last no time or have no words."""
    finals: list[Final] = []
    at = 0
    for number in range(draw(st.integers(0, 5))):
        at += draw(st.sampled_from([0, 0, 1, 40, 3_000]))
        texts = draw(st.lists(SPOKEN, max_size=8))
        words, begin = [], at
        for text in texts:
            end = at + draw(st.sampled_from([0, 0, 1, 20, 300, 9_000]))
            words.append(WordTiming(word=text, start_ms=at, end_ms=end, confidence=0.5))
            at = draw(st.sampled_from([at, end]))
        finals.append(
            Final(
                utterance=number,
                text=" ".join(texts),
                confidence=0.5,
                start_ms=begin,
                end_ms=max([at, *(word.end_ms for word in words)]),
                words=tuple(words) if draw(st.booleans()) else (),
            )
        )
    return finals


@given(random_finals(), LIMITS)
def test_cues_of_random_finals_are_in_order_and_never_empty(finals: list[Final], limits: CueLimits) -> None:
    found = cues(finals, limits)
    for cue in found:
        assert 0 < cue.end_ms - cue.start_ms <= limits.cue_ms
        assert 1 <= len(cue.lines) <= limits.lines
        assert all(line.strip() for line in cue.lines)
    assert all(before.end_ms <= after.start_ms for before, after in itertools.pairwise(found))


def in_ms(time: webvtt.models.Timestamp) -> int:
    return ((time.hours * 60 + time.minutes) * 60 + time.seconds) * 1_000 + time.milliseconds


def parsed_cues(found: list[Cue]) -> list[tuple[int, int, list[str]]]:
    return [(cue.start_ms, cue.end_ms, list(cue.lines)) for cue in found]


@given(random_finals(), LIMITS)
def test_webvtt_of_random_finals_is_read_by_a_strict_parser(finals: list[Final], limits: CueLimits) -> None:
    written = to_vtt(finals, limits)
    captions = webvtt.from_string(written).captions
    assert [
        (in_ms(caption.start_time), in_ms(caption.end_time), [html.unescape(line) for line in caption.lines])
        for caption in captions
    ] == parsed_cues(cues(finals, limits))


@given(random_finals(), LIMITS)
def test_srt_of_random_finals_is_read_by_a_strict_parser(finals: list[Final], limits: CueLimits) -> None:
    written = to_srt(finals, limits)
    read = pysubs2.SSAFile.from_string(written, format_="srt", keep_html_tags=True)
    assert [(event.start, event.end, event.text.split("\\N")) for event in read] == parsed_cues(
        cues(finals, limits)
    )


@given(random_finals(), LIMITS, st.sampled_from(["srt", "vtt"]))
def test_a_file_of_random_finals_is_complete_after_every_final(
    finals: list[Final], limits: CueLimits, form: str
) -> None:
    whole = {"srt": to_srt, "vtt": to_vtt}[form]
    buffer = io.StringIO()
    file = SubtitleFile(buffer, form, limits)
    for count, each in enumerate(finals, start=1):
        file.add(each)
        assert buffer.getvalue() == whole(finals[:count], limits)


@given(random_finals(), LIMITS)
def test_a_pipe_of_random_finals_has_cues_in_order(finals: list[Final], limits: CueLimits) -> None:
    buffer = io.StringIO()
    file = SubtitleFile(buffer, "srt", limits, append=True)
    for each in finals:
        file.add(each)
    read = list(pysubs2.SSAFile.from_string(buffer.getvalue(), format_="srt"))
    assert len(read) == len(cues(finals, limits))
    assert all(event.start < event.end for event in read)
    assert all(before.end <= after.start for before, after in itertools.pairwise(read))


@pytest.mark.parametrize(("form", "whole"), [("srt", to_srt), ("vtt", to_vtt), ("txt", to_text)])
def test_a_file_is_complete_after_every_final(form: str, whole: Any, final: MakeFinal) -> None:
    finals = [
        final("yes", utterance=0),
        final("a rather longer answer " * 9, utterance=1, start_ms=500),
        final("no", utterance=2, start_ms=60_000),
        final("indeed", utterance=3, start_ms=60_400),
    ]
    buffer = io.StringIO()
    file = SubtitleFile(buffer, form)
    for count, each in enumerate(finals, start=1):
        file.add(each)
        assert buffer.getvalue() == whole(finals[:count])
