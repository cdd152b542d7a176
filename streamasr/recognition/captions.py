"""One session's log-probs to the messages that its client reads, with times in the session's audio.

Knows the decoder and the protocol's vocabulary; no thread, no slot, no socket. Shape suffixes: T encoder
frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.decoding import hypothesis as heard
from streamasr.decoding.utterance import UtteranceState
from streamasr.protocol import messages
from streamasr.recognition.chunking import Chunk, FinalizeMark, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import SessionOptions
from streamasr.recognition.written_form import WordFormatter
from streamasr.text import join_words
from streamasr.units import samples_to_ms


class Captioner:
    """Decodes one session and keeps its audio time.

    Encoder frames count from where the stream last began (the session's start, or the last ``finalize``); the
    times in messages count from the session's start, are corrected by the model's delay, and lie in the
    audio heard since then, so that they never run backwards.
    """

    def __init__(self, model: LoadedModel, options: SessionOptions) -> None:
        self._model = model
        self._options = options
        self._decoding = options.decoding
        self._state = model.decoder.initial_state(self._decoding)
        self._formatter = WordFormatter(options.formatter)
        self._stream_start = 0
        self._heard = 0
        self._first_utterance = 0
        self._next_utterance = 0

    def accept(self, chunk: Chunk, log_probs_TV: NDArray[np.floating[Any]]) -> list[messages.ServerMessage]:
        """What a chunk changes. ``log_probs_TV`` has no frame where the chunk has no sample."""
        return self.end_chunk(chunk, *self._model.decoder.step(self.begin_chunk(chunk), log_probs_TV))

    def begin_chunk(self, chunk: Chunk) -> UtteranceState:
        """Take up what comes with a chunk; the state in which the decoder is to step its log-probs, if any."""
        self._heard = chunk.end_sample
        if chunk.hotwords is not None:
            self._decoding = replace(self._decoding, hotwords=chunk.hotwords)
            self._state = self._model.decoder.configure(self._state, chunk.hotwords)
        return self._state

    def end_chunk(
        self, chunk: Chunk, state: UtteranceState, events: Sequence[heard.UtteranceEvent]
    ) -> list[messages.ServerMessage]:
        """What the decoder's step came to, and what comes after the chunk."""
        self._state = state
        told: list[messages.ServerMessage] = [self._message(event) for event in events]
        if chunk.end is not None:
            self._state, events = self._model.decoder.flush(self._state)
            told.extend(self._message(event) for event in events)
        match chunk.end:
            case FinalizeMark(finalize_id):
                told.append(messages.Finalized(id=finalize_id))
                self._restart()
            case StopMark():
                told.append(messages.Done(audio_ms=samples_to_ms(self._heard, self._model.sample_rate)))
        return told

    def _restart(self) -> None:
        self._state = self._model.decoder.initial_state(self._decoding)
        self._formatter.begins_sentence = True
        self._stream_start = self._heard
        self._first_utterance = self._next_utterance

    def _message(self, event: heard.UtteranceEvent) -> messages.ServerMessage:
        match event:
            case heard.SpeechStarted():
                return messages.SpeechStarted(at_ms=self._ms(event.frame))
            case heard.Partial():
                return self._partial(event)
            case heard.Final():
                return self._final(event)

    def _partial(self, event: heard.Partial) -> messages.Partial:
        words, committed = self._formatter.format(event.hypothesis.words, event.committed_words)
        start_ms, end_ms = self._span(words)
        return messages.Partial(
            utterance=self._first_utterance + event.utterance,
            committed=join_words(word.text for word in words[:committed]),
            tail=join_words(word.text for word in words[committed:]),
            start_ms=start_ms,
            end_ms=end_ms,
            words=self._timings(words),
        )

    def _final(self, event: heard.Final) -> messages.Final:
        utterance = self._first_utterance + event.utterance
        self._next_utterance = utterance + 1
        start_ms, end_ms = self._span(event.hypothesis.words)
        words = self._written(event.hypothesis)
        text = join_words(word.text for word in words)
        others: dict[str, float] = {}
        for other in event.alternatives:
            others.setdefault(join_words(word.text for word in self._written(other)), other.confidence)
        others.pop(text, None)
        self._formatter.begins_sentence = event.ends_sentence
        return messages.Final(
            utterance=utterance,
            text=text,
            confidence=round(event.hypothesis.confidence, 3),
            start_ms=start_ms,
            end_ms=end_ms,
            words=self._timings(words),
            alternatives=tuple(
                messages.Alternative(text=other, confidence=round(confidence, 3))
                for other, confidence in others.items()
            ),
        )

    def _written(self, hypothesis: heard.Hypothesis) -> tuple[heard.Word, ...]:
        words, _ = self._formatter.format(hypothesis.words, len(hypothesis.words))
        return words

    def _timings(self, words: tuple[heard.Word, ...]) -> tuple[messages.WordTiming, ...]:
        if not self._options.words:
            return ()
        return tuple(
            messages.WordTiming(
                word=word.text,
                start_ms=self._ms(word.start_frame),
                end_ms=self._ms(word.end_frame),
                confidence=round(word.confidence, 3),
            )
            for word in words
        )

    def _span(self, words: tuple[heard.Word, ...]) -> tuple[int, int]:
        """From the first word's start to the last one's end; the time heard so far where there is no word."""
        if not words:
            now_ms = samples_to_ms(self._heard, self._model.sample_rate)
            return now_ms, now_ms
        return self._ms(words[0].start_frame), self._ms(words[-1].end_frame)

    def _ms(self, frame: int) -> int:
        sample = self._stream_start + frame * self._model.frame_samples - self._model.config.sample_delay
        return samples_to_ms(min(max(sample, self._stream_start), self._heard), self._model.sample_rate)
