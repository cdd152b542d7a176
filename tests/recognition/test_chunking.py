"""Chunks depend neither on how the samples were split nor on when the chunks are taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.decoding.hypothesis import Hotword
from streamasr.frontend.pcm import Samples
from streamasr.protocol.messages import Start
from streamasr.recognition.chunking import Chunk, ChunkQueue, FinalizeMark, HotwordsMark, StopMark
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.options import resolve_options
from streamasr.recognition.pcm_reader import PcmReader

CHUNK = 10
WORD = (Hotword("abc", 1.0),)


def _ramp(count: int, first: int = 0) -> Samples:
    return np.arange(first, first + count, dtype=np.float32)


def _drain(queue: ChunkQueue) -> list[Chunk]:
    taken = []
    while queue.ready:
        taken.append(queue.take())
    return taken


def _plain(chunk: Chunk) -> tuple[object, ...]:
    fields = chunk.samples_S.tolist(), chunk.end_sample, chunk.starts_stream, chunk.hotwords, chunk.end
    return (*fields, chunk.lookahead_S.tolist())


def test_a_chunk_is_ready_when_whole() -> None:
    queue = ChunkQueue(CHUNK)
    queue.append(_ramp(CHUNK - 1))
    assert not queue.ready
    queue.append(_ramp(2, CHUNK - 1))
    (chunk,) = _drain(queue)
    assert chunk.samples_S.tolist() == list(range(CHUNK))
    assert (chunk.end_sample, chunk.starts_stream, chunk.end) == (CHUNK, True, None)
    assert queue.waiting == 1


def test_finalize_cuts_a_short_chunk_and_the_next_one_starts_a_stream() -> None:
    queue = ChunkQueue(CHUNK)
    queue.append(_ramp(13))
    queue.mark(FinalizeMark("f"))
    queue.append(_ramp(CHUNK, 13))
    whole, short, after = _drain(queue)
    assert (len(whole.samples_S), whole.starts_stream, whole.end) == (CHUNK, True, None)
    assert (short.samples_S.tolist(), short.starts_stream, short.end) == (
        [10, 11, 12],
        False,
        FinalizeMark("f"),
    )
    assert (after.samples_S.tolist(), after.starts_stream, after.end_sample) == (
        list(range(13, 23)),
        True,
        23,
    )


def test_an_end_after_a_whole_chunk_belongs_to_it_and_without_audio_gives_an_empty_chunk() -> None:
    queue = ChunkQueue(CHUNK)
    queue.append(_ramp(CHUNK))
    queue.mark(FinalizeMark("1"))
    queue.mark(FinalizeMark("2"))
    queue.mark(StopMark())
    first, second, third = _drain(queue)
    assert (len(first.samples_S), first.end) == (CHUNK, FinalizeMark("1"))
    assert (len(second.samples_S), second.end) == (0, FinalizeMark("2"))
    assert (len(third.samples_S), third.end) == (0, StopMark())


def test_hotwords_begin_with_the_chunk_that_holds_the_next_sample() -> None:
    queue = ChunkQueue(CHUNK)
    queue.append(_ramp(CHUNK))
    queue.mark(HotwordsMark(WORD))
    queue.append(_ramp(CHUNK))
    before, after = _drain(queue)
    assert before.hotwords is None
    assert after.hotwords == WORD


def test_hotwords_outlast_a_finalize_at_the_same_place() -> None:
    queue = ChunkQueue(CHUNK)
    queue.append(_ramp(3))
    queue.mark(HotwordsMark(WORD))
    queue.mark(FinalizeMark(""))
    queue.append(_ramp(CHUNK))
    ended, after = _drain(queue)
    assert (ended.end, ended.hotwords) == (FinalizeMark(""), None)
    assert after.hotwords == WORD


def test_a_stream_advances_by_hops_and_looks_ahead() -> None:
    queue = ChunkQueue(CHUNK, 4)
    queue.append(_ramp(17))
    first, second = _drain(queue)
    queue.mark(StopMark())
    (last,) = _drain(queue)
    assert (first.samples_S.tolist(), first.lookahead_S.tolist()) == ([0, 1, 2, 3], [4, 5, 6, 7, 8, 9])
    assert (second.samples_S.tolist(), second.lookahead_S.tolist()) == ([4, 5, 6, 7], [8, 9, 10, 11, 12, 13])
    assert (first.end_sample, second.end_sample) == (4, 8)
    assert (last.samples_S.tolist(), last.lookahead_S.tolist(), last.end) == (
        list(range(8, 17)),
        [],
        StopMark(),
    )


def test_silence_behind_the_end_is_cut_like_samples() -> None:
    queue = ChunkQueue(CHUNK, 5, right_padding_samples=12)
    queue.append(_ramp(7))
    queue.mark(FinalizeMark("f"))
    queue.append(_ramp(2, 7))
    queue.mark(StopMark())
    first, second, third, *after = _drain(queue)
    assert (first.samples_S.tolist(), first.lookahead_S.tolist()) == ([0, 1, 2, 3, 4], [5, 6, 0, 0, 0])
    assert (second.samples_S.tolist(), second.end_sample, second.end) == ([5, 6, 0, 0, 0], 7, None)
    assert second.audio_samples == 2
    assert (third.samples_S.tolist(), third.end_sample, third.end) == ([0] * 9, 7, FinalizeMark("f"))
    assert [chunk.samples_S.tolist() for chunk in after] == [[7, 8, 0, 0, 0], [0] * 9]
    assert [(chunk.starts_stream, chunk.end) for chunk in after] == [(True, None), (False, StopMark())]


def test_an_empty_stream_has_no_silence_behind_it() -> None:
    queue = ChunkQueue(CHUNK, right_padding_samples=12)
    queue.mark(StopMark())
    (chunk,) = _drain(queue)
    assert (len(chunk.samples_S), chunk.right_padding_samples, chunk.end) == (0, 0, StopMark())


events = st.lists(
    st.one_of(
        st.integers(1, 27),
        st.just(FinalizeMark("x")),
        st.builds(HotwordsMark, st.just(WORD) | st.just(())),
    ),
    max_size=12,
)


@given(events, st.sampled_from([CHUNK, 5, 3]), st.data())
def test_chunks_depend_on_neither_split_nor_time(script: list[object], hop: int, data: st.DataObject) -> None:
    at_once, in_pieces = ChunkQueue(CHUNK, hop), ChunkQueue(CHUNK, hop)
    early: list[Chunk] = []
    position = 0
    for event in [*script, StopMark()]:
        if isinstance(event, int):
            samples = _ramp(event, position)
            position += event
            at_once.append(samples)
            cuts = data.draw(st.lists(st.integers(0, event), max_size=3))
            for part in np.split(samples, sorted(cuts)):
                in_pieces.append(part)
                early.extend(_drain(in_pieces) if data.draw(st.booleans()) else [])
        else:
            at_once.mark(event)  # type: ignore[arg-type]
            in_pieces.mark(event)  # type: ignore[arg-type]
    late, early = _drain(at_once), early + _drain(in_pieces)

    # An end that arrives after its chunk was taken comes in an empty chunk of its own: fold those back.
    def folded(chunks: list[Chunk]) -> list[tuple[object, ...]]:
        out: list[tuple[object, ...]] = []
        for chunk in chunks:
            plain = _plain(chunk)
            if not len(chunk.samples_S) and out and out[-1][4] is None:
                out[-1] = (*out[-1][:4], chunk.end, out[-1][5])
            else:
                out.append(plain)
        return out

    assert folded(early) == folded(late)
    assert np.concatenate([c.samples_S for c in late]).tolist() == list(range(position))
    assert at_once.waiting == 0


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_reader_keeps_every_sample_through_flushes(model: LoadedModel, rate: int) -> None:
    options = resolve_options(Start(sample_rate=rate, encoding="mulaw", channels=2), model)
    reader = PcmReader(options, model.sample_rate)
    second = bytes([200, 100] * rate)
    counts = []
    for _ in range(2):
        parts = [reader.feed(second[: rate // 2 * 2]), reader.feed(second[rate // 2 * 2 :]), reader.flush()]
        counts.append(sum(len(part) for part in parts))
    assert counts == [model.sample_rate, model.sample_rate]


def test_the_reader_carries_part_of_a_frame_to_the_next_message(model: LoadedModel) -> None:
    data = np.arange(1, 9, dtype="<i2").tobytes()
    whole = PcmReader(resolve_options(Start(), model), model.sample_rate).feed(data)
    reader = PcmReader(resolve_options(Start(), model), model.sample_rate)
    pieces = [reader.feed(data[:3]), reader.feed(data[3:4]), reader.feed(data[4:])]
    assert [len(piece) for piece in pieces] == [1, 1, 6]
    assert np.array_equal(np.concatenate(pieces), whole)
