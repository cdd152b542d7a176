"""Measure marks and capitals on recognised speech, and on the words that were really spoken.

    python benchmarks/punctuation_speech.py dev-librispeech --cased dev-librispeech-cased.jsonl

The folder has a ``manifest.jsonl``. The cased file has one JSON object a line: ``id``, the stem of the audio file,
and ``text``, the transcript with the capitals and marks of the printed book; ``benchmarks/cased_references.py`` makes
it. Recordings without such a text are left out. Each recording is a session with chunks of 640 ms and the model's
default search. Its finals are written as with ``"format": "written"``, except that numbers stay words. The recognised
words are aligned with the spoken ones:

* A mark counts at the word before it, and a capital at its word, where a recognised word is aligned, right or wrong.
  The capital of a wrong word is right if the casing is the same.
* What belongs to a word that was not recognised is missing. What is written at a word that was not spoken is wrong.
* The mark at the end of a recording counts only if a sentence ends there in the book, the capital at its start only
  if the book has one there. Marks that the book leaves open (a dash, ``...``, the end of a heading) do not count.

Recognition takes most of the time. ``--cache`` keeps its finals for later runs with the same acoustic model,
language model and ``config.toml``; the punctuation model may change. After changes to the code of the search or the
end of utterances, delete the file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from make_results import MODEL, model_digest
from punctuation_peers import write_by_truecase

from streamasr.decoding.hypothesis import Final, Word
from streamasr.decoding.utterance import UtteranceOptions
from streamasr.formatting import formatter_for
from streamasr.manifest import read_manifest
from streamasr.media.reader import read_audio
from streamasr.protocol.messages import Start
from streamasr.punctuation.base import MARKS, Boundary, Punctuated, Punctuator, begin_sentence
from streamasr.punctuation.labels import OPEN, Casing, LabelledWord, Labeller, casing_of
from streamasr.punctuation.loading import load_punctuator
from streamasr.punctuation.model_file import PUNCTUATION_FILE
from streamasr.punctuation.scoring import (
    CAPITALS,
    NAMES,
    LineWriter,
    Scores,
    with_sentence_capitals,
    write_by_rules,
)
from streamasr.recognition import LoadedModel, load_model, resolve_model
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.options import resolve_options
from streamasr.recognition.streaming import stream_many
from streamasr.recognition.written_form import WordFormatter
from streamasr.scoring import Edits, align, count_edits

LANGUAGE = "en"
SLOTS = 4
"""Recordings that are recognised at the same time."""
_CLOSING = " \"'”’)]_"
"""What may come after the mark that ends a sentence."""


class SpokenUtterance(NamedTuple):
    """The words of one final."""

    words: tuple[Word, ...]
    ends_sentence: bool
    """Whether the sentence ends too; it goes on if the utterance was split for its length."""


Recording = Sequence[SpokenUtterance]
RecordingWriter = Callable[[Recording], list[Punctuated]]
"""Returns the decision on each word of a recording, with the capitals that begin sentences."""


class FinalsSink:
    """Decodes the log-probs of one recording as a session does, and collects its finals."""

    def __init__(self, model: LoadedModel, options: UtteranceOptions) -> None:
        self._decoder = model.decoder
        self._state = model.decoder.initial_state(options)
        self.finals: list[SpokenUtterance] = []

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        """Decode the next chunk."""
        self._state, events = self._decoder.step(self._state, log_probs_TV, lookahead_TV)
        if chunk.end is not None:
            self._state, last = self._decoder.flush(self._state)
            events = (*events, *last)
        for event in events:
            if isinstance(event, Final) and event.hypothesis.words:
                self.finals.append(SpokenUtterance(event.hypothesis.words, event.ends_sentence))


def recognise(model: LoadedModel, audio: Mapping[str, Path]) -> Iterator[tuple[str, Recording]]:
    """Yield the id and the finals of each recording, in the order in which they end."""
    options = resolve_options(Start(format="written", partials=False), model)
    names = list(audio)
    samples = (read_audio(audio[name], model.sample_rate) for name in names)
    results = stream_many(
        model, samples, options.chunk_frames, lambda: FinalsSink(model, options.decoding), slots=SLOTS
    )
    for result in results:
        yield names[result.index], result.sink.finals


def recognise_all(model: LoadedModel, audio: Mapping[str, Path], cache: Path | None) -> dict[str, Recording]:
    """Return the finals of each recording; those in the cache are not recognised again.

    The cache gets each recording as it ends, so that an interrupted run can be continued.
    """
    folder = resolve_model(MODEL)
    digest = model_digest(folder) + hashlib.sha256((folder / "config.toml").read_bytes()).hexdigest()[:12]
    recordings: dict[str, Recording] = {}
    if cache is not None and cache.is_file():
        for line in cache.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["model"] == digest and row["id"] in audio:
                recordings[row["id"]] = [
                    SpokenUtterance(tuple(Word(*word) for word in words), ends_sentence)
                    for words, ends_sentence in row["finals"]
                ]
    missing = {name: path for name, path in audio.items() if name not in recordings}
    for name, finals in recognise(model, missing):
        recordings[name] = finals
        print(f"{len(recordings)} of {len(audio)}: {name}", file=sys.stderr)
        if cache is not None:
            rows = [
                ([(word.text, word.start_frame, word.end_frame, word.confidence) for word in words], ends)
                for words, ends in finals
            ]
            with cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"id": name, "model": digest, "finals": rows}) + "\n")
    return recordings


def label_recording(labeller: Labeller, text: str) -> list[LabelledWord]:
    """Return the labels of a recording's text; the mark at its end is open where no sentence ends in the book."""
    labels = labeller.label(text)
    if text.rstrip(_CLOSING)[-1:] not in (".", "?", "!"):
        labels[-1] = labels[-1]._replace(mark=OPEN)
    return labels


def with_spoken_words(words: Sequence[str], recording: Recording) -> list[SpokenUtterance]:
    """Return the finals of a recording as if all words had been recognised.

    Words that were recognised, even wrongly, keep their times; the others take no time after the word before them.
    Finals without a spoken word are left out.
    """
    recognised = [(word, at) for at, utterance in enumerate(recording) for word in utterance.words]
    spoken: list[list[Word]] = [[] for _ in recording] or [[]]
    at = frame = 0
    places = iter(recognised)
    for expected, found in align(words, [word.text for word, _ in recognised]):
        start = end = frame
        if found is not None:
            word, at = next(places)
            start, end = word.start_frame, word.end_frame
            frame = end
        if expected is not None:
            spoken[at].append(Word(expected, start, end, 1.0))
    ends = [utterance.ends_sentence for utterance in recording] or [True]
    return [SpokenUtterance(tuple(own), end) for own, end in zip(spoken, ends, strict=True) if own]


def write_by_session(punctuator: Punctuator, frame_ms: float) -> RecordingWriter:
    """Return a writer that does what a session does with its finals; each recording is a session."""

    def write(recording: Recording) -> list[Punctuated]:
        formatter = WordFormatter(None, punctuator, frame_ms)
        decisions = []
        for words, ends_sentence in recording:
            for written in formatter.format_final(words, ends_sentence=ends_sentence):
                mark = written.text[-1] if written.text[-1] in MARKS else ""
                decisions.append(Punctuated(written.text.removesuffix(mark), mark))
            formatter.next_utterance(words, ends_sentence=ends_sentence)
        return decisions

    return write


def write_without_pauses(punctuator: Punctuator) -> RecordingWriter:
    """Return a writer that sends the words of a recording through a model, without pauses, as one utterance."""

    def write(recording: Recording) -> list[Punctuated]:
        words = [word.text for utterance in recording for word in utterance.words]
        _, decisions = punctuator.step(punctuator.initial_state(), words, None, Boundary.END)
        return with_sentence_capitals(decisions, begins=True)

    return write


def write_by_lines(writer: LineWriter) -> RecordingWriter:
    """Return a writer for which the finals up to one that ends a sentence are a line."""

    def write(recording: Recording) -> list[Punctuated]:
        lines: list[list[str]] = [[]]
        for words, ends_sentence in recording:
            lines[-1] += [word.text for word in words]
            if ends_sentence:
                lines.append([])
        return [decision for line in writer([line for line in lines if line]) for decision in line]

    return write


def add_recording(
    scores: Scores, expected: Sequence[LabelledWord], words: Sequence[str], written: Sequence[Punctuated]
) -> None:
    """Count the marks and capitals of a recording.

    Args:
        scores: the sums.
        expected: the spoken words with their labels.
        words: the recognised words.
        written: the decision on each of them.
    """
    scores.words += len(expected)
    labels, decisions = iter(expected), iter(written)
    for spoken, recognised in align([label.word for label in expected], words):
        label = None if spoken is None else next(labels)
        decision = None if recognised is None else next(decisions)
        if label is None or label.mark != OPEN:
            right = "" if label is None else MARKS[label.mark]
            found = "" if decision is None else decision.mark
            for mark in MARKS[1:]:
                scores.counts[mark].add(mark if right == mark else "", mark if found == mark else "")
        if label is not None and label is expected[0] and casing_of(label.written) == Casing.LOWER:
            continue
        begins = label is not None and label.begins_sentence
        same_word = label is None or decision is None or label.word == recognised
        capital = label and _capital(begin_sentence(label.written) if begins else label.written, same_word)
        capital_found = decision and _capital(decision.text, same_word)
        for kind in (CAPITALS,) if begins else (CAPITALS, NAMES):
            scores.counts[kind].add(capital, capital_found)


def _capital(text: str, same_word: bool) -> object:
    """What must be alike for a capital to be right: the word, or its casing if it is compared with another word."""
    casing = casing_of(text)
    return None if casing == Casing.LOWER else text if same_word else casing


def read_cased(path: Path) -> dict[str, str]:
    """Return the text of each id in a cased file."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: row["text"] for row in rows}


def measure(
    labels: Mapping[str, Sequence[LabelledWord]], recordings: Mapping[str, Recording], write: RecordingWriter
) -> Scores:
    """Return the scores of a writer on the words of ``recordings``."""
    scores = Scores()
    for name, expected in labels.items():
        words = [word.text for utterance in recordings[name] for word in utterance.words]
        add_recording(scores, expected, words, write(recordings[name]) if words else [])
    return scores


def main() -> None:
    """Print one line for each way, on recognised and on spoken words."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with manifest.jsonl")
    parser.add_argument("--cased", type=Path, required=True, help="JSON lines with id and text")
    parser.add_argument("--cache", type=Path, help="file that keeps the finals for the next run")
    args = parser.parse_args()
    utterances = {
        utterance.audio.stem: utterance for utterance in read_manifest(args.folder / "manifest.jsonl")
    }
    texts = read_cased(args.cased)
    labeller = Labeller(LANGUAGE)
    labels = {name: label_recording(labeller, texts[name]) for name in utterances if name in texts}
    for name, words in labels.items():
        if [word.word for word in words] != utterances[name].text.split():
            parser.error(f"{args.cased}: the words of {name} are not those of its transcript")
    model = load_model(MODEL, "cpu")
    punctuator = load_punctuator(resolve_model(MODEL))
    assert punctuator is not None
    recognised = recognise_all(model, {name: utterances[name].audio for name in labels}, args.cache)
    spoken = {
        name: with_spoken_words([word.word for word in words], recognised[name])
        for name, words in labels.items()
    }
    rules = formatter_for(LANGUAGE)
    session = write_by_session(punctuator, model.framing.frame_ms)
    others: dict[str, RecordingWriter] = {
        "rules": write_by_lines(write_by_rules(rules)),
        "rules, full stops": write_by_lines(write_by_rules(rules, ".")),
        "truecase": write_by_lines(write_by_truecase()),
    }
    parts: tuple[tuple[str, Mapping[str, Recording], dict[str, RecordingWriter]], ...] = (
        ("recognised words", recognised, {MODEL: session, **others}),
        (
            "spoken words",
            spoken,
            {MODEL: session, f"{MODEL}, no pauses": write_without_pauses(punctuator), **others},
        ),
    )
    print(f"{'F1':24}{'.':>8}{',':>8}{'?':>8}{'capitals':>10}{'inside sentences':>18}")
    for title, recordings, writers in parts:
        print(f"\n{title}")
        for name, writer in writers.items():
            scores = measure(labels, recordings, writer)
            marks = "".join(f"{scores.counts[mark].f1:8.3f}" for mark in MARKS[1:])
            capitals, inside = (scores.counts[kind].f1 for kind in (CAPITALS, NAMES))
            print(f"{name:24}{marks}{capitals:10.3f}{inside:18.3f}")
    print()
    counts = "".join(f"{scores.counts[mark].expected:8}" for mark in MARKS[1:])
    print(
        f"{'in the books':24}{counts}{scores.counts[CAPITALS].expected:10}{scores.counts[NAMES].expected:18}"
    )
    edits = Edits()
    for name, words in labels.items():
        found = [word.text for utterance in recognised[name] for word in utterance.words]
        edits += count_edits([word.word for word in words], found)
    finals = sum(len(recording) for recording in recognised.values())
    print(f"\n{len(labels)} of {len(utterances)} recordings, {finals} finals, {edits.length} words, ", end="")
    print(f"WER {100 * edits.rate:.1f} %")
    path = resolve_model(MODEL) / PUNCTUATION_FILE
    print(f"{PUNCTUATION_FILE} {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}")


if __name__ == "__main__":
    main()
