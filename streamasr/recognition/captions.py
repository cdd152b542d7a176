"""Turn one session's log-probs into the messages for its client, with times in the session's audio.

Shape suffixes: T encoder frames, V tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamasr.decoding.hypothesis import (
    Final,
    Hypothesis,
    Partial,
    SpeechStarted,
    UtteranceEnding,
    UtteranceEvent,
    Word,
)
from streamasr.decoding.utterance import UtteranceState
from streamasr.protocol import messages
from streamasr.recognition.chunking import Chunk, FinalizeMark, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import SessionOptions
from streamasr.recognition.written_form import WordFormatter
from streamasr.text import join_words
from streamasr.units import samples_to_ms


class Captioner:
    """Decodes one session and converts its decoder events to messages.

    The decoder counts frames and utterances from the start of a stream: the session's start, or the last
    ``finalize``. Messages count both from the session's start. Their times are corrected by the model's delay, then
    limited to the stream's audio so far, so that they never decrease.

    Args:
        model: the session's model.
        options: the session's options.
    """

    def __init__(self, model: LoadedModel, options: SessionOptions) -> None:
        self._model = model
        self._options = options
        self._decoding = options.decoding
        self._state = model.decoder.initial_state(self._decoding)
        self._formatter = WordFormatter(options.formatter, options.punctuator, model.framing.frame_ms)
        self._stream_start = 0
        """The sample of the session at which the stream starts."""
        self._end_sample = 0
        """Samples of the session up to the end of the newest chunk's hop."""
        self._newest_sample = 0
        """Samples of the session up to the end of the newest chunk's look-ahead."""
        self._last_end_ms = 0
        """End of the last final."""
        self._first_utterance = 0
        """Number of the stream's first utterance."""
        self._next_utterance = 0

    def accept(
        self,
        chunk: Chunk,
        log_probs_TV: NDArray[np.floating[Any]],
        lookahead_TV: NDArray[np.floating[Any]] | None = None,
    ) -> list[messages.ServerMessage]:
        """Decode the log-probs of the next chunk, and return the messages that result.

        Args:
            chunk: the chunk, with the marks that take effect at its start and end.
            log_probs_TV: its natural-log token probabilities; T is 0 for a chunk without frames.
            lookahead_TV: those of its look-ahead.

        Raises:
            ValueError: the log-probs have a wrong shape, or one is NaN.
        """
        state = self.begin_chunk(chunk)
        return self.end_chunk(chunk, *self._model.decoder.step(state, log_probs_TV, lookahead_TV))

    def begin_chunk(self, chunk: Chunk) -> UtteranceState:
        """Apply the chunk's new hotwords, and return the state from which to decode its log-probs.

        With :meth:`end_chunk` it does the work of :meth:`accept` for callers that decode many sessions in one call.
        """
        self._end_sample = chunk.end_sample
        self._newest_sample = max(chunk.end_sample, chunk.lookahead_end_sample)
        if chunk.hotwords is not None:
            self._decoding = replace(self._decoding, hotwords=chunk.hotwords)
            self._state = self._model.decoder.configure(self._state, chunk.hotwords)
        return self._state

    def end_chunk(
        self, chunk: Chunk, state: UtteranceState, events: Sequence[UtteranceEvent]
    ) -> list[messages.ServerMessage]:
        """Return the messages of the decoder's ``events``, and carry out the mark at the chunk's end.

        Args:
            chunk: the chunk of the last :meth:`begin_chunk`.
            state: the decoder's state after the chunk.
            events: the decoder's events.
        """
        self._state = state
        emitted: list[messages.ServerMessage] = [self._message(event) for event in events]
        if chunk.end is not None:
            self._state, events = self._model.decoder.flush(self._state)
            emitted.extend(self._message(event) for event in events)
        match chunk.end:
            case FinalizeMark(finalize_id):
                emitted.append(messages.Finalized(id=finalize_id))
                self._start_stream()
            case StopMark():
                audio_ms = samples_to_ms(self._end_sample, self._model.sample_rate)
                emitted.append(messages.Done(audio_ms=audio_ms))
        return emitted

    def _start_stream(self) -> None:
        self._state = self._model.decoder.initial_state(self._decoding)
        self._formatter.start_stream()
        self._stream_start = self._end_sample
        self._first_utterance = self._next_utterance

    def _message(self, event: UtteranceEvent) -> messages.ServerMessage:
        match event:
            case SpeechStarted():
                return messages.SpeechStarted(at_ms=self._ms(event.frame))
            case Partial():
                return self._partial(event)
            case UtteranceEnding():
                return self._ending(event)
            case Final():
                return self._final(event)

    def _partial(self, event: Partial) -> messages.Partial:
        words, committed = self._formatter.format(event.hypothesis.words, event.committed_words)
        spans = self._spans_ms(words)
        start_ms, end_ms = self._span_ms(spans)
        return messages.Partial(
            utterance=self._first_utterance + event.utterance,
            committed=join_words(word.text for word in words[:committed]),
            tail=join_words(word.text for word in words[committed:]),
            start_ms=start_ms,
            end_ms=end_ms,
            words=self._word_timings(words, spans),
        )

    def _ending(self, event: UtteranceEnding) -> messages.UtteranceEnding:
        words = self._formatter.format_final(event.hypothesis.words, ends_sentence=True)
        spans = self._spans_ms(words)
        start_ms, end_ms = self._span_ms(spans)
        return messages.UtteranceEnding(
            utterance=self._first_utterance + event.utterance,
            probability=round(event.probability, 3),
            text=join_words(word.text for word in words),
            start_ms=start_ms,
            end_ms=end_ms,
            words=self._word_timings(words, spans),
        )

    def _final(self, event: Final) -> messages.Final:
        utterance = self._first_utterance + event.utterance
        self._next_utterance = utterance + 1
        words = self._written_words(event, event.hypothesis)
        spans = self._spans_ms(words)
        start_ms, end_ms = self._span_ms(spans)
        self._last_end_ms = end_ms
        text = join_words(word.text for word in words)
        alternatives: dict[str, float] = {}
        for alternative in event.alternatives:
            alternative_text = join_words(word.text for word in self._written_words(event, alternative))
            alternatives.setdefault(alternative_text, alternative.confidence)
        alternatives.pop(text, None)
        self._formatter.next_utterance(event.hypothesis.words, ends_sentence=event.ends_sentence)
        return messages.Final(
            utterance=utterance,
            text=text,
            confidence=round(event.hypothesis.confidence, 3),
            start_ms=start_ms,
            end_ms=end_ms,
            words=self._word_timings(words, spans),
            alternatives=tuple(
                messages.Alternative(text=alternative_text, confidence=round(confidence, 3))
                for alternative_text, confidence in alternatives.items()
            ),
        )

    def _written_words(self, event: Final, hypothesis: Hypothesis) -> tuple[Word, ...]:
        return self._formatter.format_final(hypothesis.words, ends_sentence=event.ends_sentence)

    def _word_timings(
        self, words: Sequence[Word], spans: Sequence[tuple[int, int]]
    ) -> tuple[messages.WordTiming, ...]:
        if not self._options.words:
            return ()
        return tuple(
            messages.WordTiming(
                word=word.text, start_ms=start_ms, end_ms=end_ms, confidence=round(word.confidence, 3)
            )
            for word, (start_ms, end_ms) in zip(words, spans, strict=True)
        )

    def _spans_ms(self, words: Sequence[Word]) -> list[tuple[int, int]]:
        """Return the start and the end of each word, in milliseconds.

        Each is at least 1 ms long and ends before the next one begins, and at the end of the audio at the latest:
        words recognised in the silence after a stream's end share its last milliseconds. The first one begins after
        the last final, if there are as many milliseconds as words since then.
        """
        spans: list[tuple[int, int]] = []
        earliest = self._last_end_ms
        for word in words:
            start_ms = max(self._ms(word.start_frame), earliest)
            earliest = max(self._ms(word.end_frame), start_ms + 1)
            spans.append((start_ms, earliest))
        latest = samples_to_ms(self._newest_sample, self._model.sample_rate)
        for at in reversed(range(len(spans))):
            end_ms = min(spans[at][1], latest)
            latest = min(spans[at][0], end_ms - 1)
            spans[at] = latest, end_ms
        return spans

    def _span_ms(self, spans: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """Return the first word's start and the last word's end; the end of the audio without a word."""
        if not spans:
            now_ms = samples_to_ms(self._newest_sample, self._model.sample_rate)
            return now_ms, now_ms
        return spans[0][0], spans[-1][1]

    def _ms(self, frame: int) -> int:
        sample = self._stream_start + frame * self._model.frame_samples - self._model.config.sample_delay
        sample = min(max(sample, self._stream_start), self._newest_sample)
        return samples_to_ms(sample, self._model.sample_rate)
