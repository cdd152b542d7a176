"""Blocks, files and many utterances at a time give the same messages in this process."""

import time
from pathlib import Path

import numpy as np
import soundfile

from streamasr.protocol.messages import Done, Finalized, ServerMessage, Start
from streamasr.recognition.batch import LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.chunking import Chunk
from streamasr.recognition.local import LocalSession, transcribe_blocks, transcribe_file
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.recognition.streaming import stream_many
from tests.recognition.tiny import final_text, messages_of, noise


class _Messages:
    def __init__(self, captioner: Captioner) -> None:
        self.captioner = captioner
        self.messages: list[ServerMessage] = []

    def accept(self, chunk: Chunk, log_probs_TV: LogProbs, lookahead_TV: LogProbs) -> None:
        self.messages.extend(self.captioner.accept(chunk, log_probs_TV, lookahead_TV))


def test_blocks_of_any_size_give_the_same_messages(model: LoadedModel) -> None:
    samples = noise(4.0, seed=1)
    whole = messages_of(model, samples)
    assert final_text(whole)
    assert whole[-1] == Done(audio_ms=4_000)
    assert list(transcribe_blocks(model, np.array_split(samples, 37))) == whole


def test_a_file_gives_the_messages_of_its_samples(model: LoadedModel, tmp_path: Path) -> None:
    samples = noise(2.0, seed=2)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="PCM_16")
    assert list(transcribe_file(model, tmp_path / "a.wav")) == messages_of(model, samples)


def test_many_at_a_time_give_the_text_of_each_alone(model: LoadedModel) -> None:
    utterances = [noise(0.3 + 0.7 * seed, seed) for seed in range(5)]
    options = resolve_options(Start(latency_ms=160), model)
    together = stream_many(
        model,
        utterances,
        options.chunk_frames,
        lambda: _Messages(Captioner(model, options)),
        slots=2,
        clock=time.perf_counter,
    )
    streamed = {result.index: (final_text(result.sink.messages), result.seconds) for result in together}
    assert sorted(streamed) == list(range(5))
    for index, samples in enumerate(utterances):
        assert streamed[index][0] == final_text(messages_of(model, samples, Start(latency_ms=160)))
        assert streamed[index][1] > 0


def test_finalize_starts_a_new_stream(model: LoadedModel) -> None:
    first, second = noise(1.1, seed=3), noise(1.7, seed=4)
    session = LocalSession(model)
    first_messages = [*session.feed(first), *session.finalize("x")]
    assert first_messages[-1] == Finalized(id="x")
    assert final_text(first_messages) == final_text(messages_of(model, first))
    rest = [*session.feed(second), *session.stop()]
    assert final_text(rest) == final_text(messages_of(model, second))
    assert rest[-1] == Done(audio_ms=2_800)


def test_without_audio_done_is_the_only_message(model: LoadedModel) -> None:
    assert messages_of(model, np.zeros(0, dtype=np.float32)) == [Done(audio_ms=0)]
