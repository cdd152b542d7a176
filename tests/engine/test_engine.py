"""The engine with its thread keeps order, isolates failures, finalizes and drains. No test sleeps."""

import io
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from streamasr.decoding.beam import BeamDecoder
from streamasr.decoding.utterance import UtteranceDecoder
from streamasr.engine import Engine, EngineConfig
from streamasr.errors import AudioError, OverloadedError, ProtocolError
from streamasr.frontend.pcm import Samples, decode_pcm
from streamasr.protocol.messages import (
    Done,
    Error,
    Final,
    Finalized,
    HotwordReading,
    HotwordSpec,
    Start,
    Warning,
)
from streamasr.recognition.batch import BatchStep, LogProbs
from streamasr.recognition.captions import Captioner
from streamasr.recognition.local import LocalSession
from streamasr.recognition.model import LoadedModel
from tests.recognition.tiny import Inbox, final_text, messages_of, noise, s16

CONFIG = EngineConfig(max_sessions=4, max_batch=4, high_backlog_ms=1_000, low_backlog_ms=400)


@pytest.fixture
def engine(model: LoadedModel) -> Iterator[Engine]:
    with Engine(model, CONFIG) as running:
        yield running


@pytest.fixture
def clip() -> Samples:
    """Six seconds of speech at 16 kHz."""
    path = next((Path(__file__).parents[1] / "data" / "librispeech").glob("*.flac"))
    samples, _ = soundfile.read(path, frames=96_000, dtype="float32")
    return np.asarray(samples)


class _Gate:
    """Holds the worker before its next step until the test lets it go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        self.open.set()
        run = BatchStep.run

        def gated(step: BatchStep, work: Any) -> Any:
            self.reached.set()
            assert self.open.wait(timeout=30)
            return run(step, work)

        monkeypatch.setattr(BatchStep, "run", gated)

    def shut(self) -> None:
        self.reached.clear()
        self.open.clear()

    def wait_reached(self) -> None:
        assert self.reached.wait(timeout=30)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Gate]:
    gate = _Gate(monkeypatch)
    yield gate
    gate.open.set()


def test_the_engine_sends_the_messages_of_a_local_session(engine: Engine, model: LoadedModel) -> None:
    samples = noise(4.0, seed=1)
    inbox = Inbox()
    session = engine.open(Start(), inbox)
    assert (session.ready.session, session.ready.latency_ms, session.ready.model) == (session.id, 320, "tiny")
    data = s16(samples)
    for offset in range(0, len(data), 1_234):
        session.feed(data[offset : offset + 1_234])
    session.stop()
    inbox.wait_for("done")
    assert inbox.messages == messages_of(model, samples)
    assert session.over
    assert engine.stats().sessions == 0


def test_other_sessions_change_no_word(engine: Engine, model: LoadedModel) -> None:
    takes = [noise(2.0 + seed, seed) for seed in range(4)]
    inboxes = [Inbox() for _ in takes]
    sessions = [engine.open(Start(latency_ms=80 * 2 ** (i % 2)), inbox) for i, inbox in enumerate(inboxes)]
    streams = [memoryview(s16(take)) for take in takes]
    for offset in range(0, max(map(len, streams)), 5_000):
        for session, stream in zip(sessions, streams, strict=True):
            session.feed(bytes(stream[offset : offset + 5_000]))
    for index, (session, inbox, take) in enumerate(zip(sessions, inboxes, takes, strict=True)):
        session.stop()
        inbox.wait_for("done")
        alone = messages_of(model, take, Start(latency_ms=80 * 2 ** (index % 2)))
        assert inbox.text() == final_text(alone)


def test_finalize_answers_after_the_final_and_audio_time_goes_on(engine: Engine, model: LoadedModel) -> None:
    first, second = noise(1.13, seed=3), noise(1.5, seed=4)
    inbox = Inbox()
    session = engine.open(Start(sample_rate=8_000, encoding="mulaw"), inbox)
    session.feed(bytes(range(256)) * 30)
    session.finalize("one")
    session.finalize("two")
    session.feed(bytes(range(256)) * 20)
    session.stop()
    done = inbox.wait_for("done")
    kinds = [(m.type, getattr(m, "id", "")) for m in inbox.messages if m.type in ("finalized", "done")]
    assert kinds == [("finalized", "one"), ("finalized", "two"), ("done", "")]
    assert done == Done(audio_ms=50 * 256 // 8)

    inbox = Inbox()
    session = engine.open(Start(), inbox)
    session.feed(s16(first))
    session.finalize("x")
    session.feed(s16(second))
    session.stop()
    inbox.wait_for("done")
    local = LocalSession(model)
    expected = [*local.feed(first), *local.finalize("x"), *local.feed(second), *local.stop()]
    assert inbox.messages == expected
    assert Finalized(id="x") in expected


def test_the_resamplers_last_samples_are_recognised_before_finalized(engine: Engine) -> None:
    inbox = Inbox()
    session = engine.open(Start(sample_rate=48_000), inbox)
    session.feed(s16(noise(3.0, seed=5)))
    session.finalize("")
    session.stop()
    assert inbox.wait_for("done") == Done(audio_ms=1_000)


def test_utterance_numbers_and_times_never_decrease(engine: Engine) -> None:
    inbox = Inbox()
    session = engine.open(Start(latency_ms=80), inbox)
    for seed in range(3):
        session.feed(s16(noise(2.5, seed)))
        session.finalize(str(seed))
    session.stop()
    inbox.wait_for("done")
    finals = [m for m in inbox.messages if isinstance(m, Final)]
    assert [final.utterance for final in finals] == list(range(len(finals)))
    times = [ms for final in finals for word in final.words for ms in (word.start_ms, word.end_ms)]
    assert times == sorted(times)
    assert times[0] >= 0
    assert times[-1] <= 7_500


def test_a_crashed_step_fails_its_sessions_and_the_engine_goes_on(
    engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = BatchStep.run

    def explosive(step: BatchStep, work: Any) -> Any:
        if any(chunk.end_sample > 8_000 for _, chunk in work):
            raise RuntimeError("out of memory, say")
        return run(step, work)

    monkeypatch.setattr(BatchStep, "run", explosive)
    doomed, bystander = Inbox(), Inbox()
    victim = engine.open(Start(), doomed)
    other = engine.open(Start(), bystander)
    short = noise(0.4, seed=6)
    victim.feed(s16(noise(1.0)))
    error = doomed.wait_for("error")
    assert isinstance(error, Error)
    assert (error.code, error.fault) == ("engine_failed", "server")
    assert "memory" not in error.message
    victim.feed(s16(noise(1.0)))
    victim.stop()
    other.feed(s16(short))
    other.stop()
    bystander.wait_for("done")
    assert bystander.text() == final_text(messages_of(model, short))
    stats = engine.stats()
    assert (stats.step_failures, stats.sessions) == (1, 0)
    assert engine.alive


def test_a_device_that_fails_for_good_ends_the_engine(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with Engine(model, EngineConfig(max_sessions=4, max_failed_steps=3)) as engine:
        monkeypatch.setattr(BatchStep, "run", broken)
        bystander = Inbox()
        engine.open(Start(), bystander)
        for _ in range(3):
            assert engine.alive
            inbox = Inbox()
            engine.open(Start(), inbox).feed(s16(noise(1.0)))
            inbox.wait_for("error")
        error = bystander.wait_for("error")
        assert isinstance(error, Error)
        assert error.code == "engine_failed"
        engine._worker.join(timeout=30)
        assert not engine.alive
        with pytest.raises(OverloadedError) as refused:
            engine.open(Start(), Inbox())
        assert refused.value.code == "shutting_down"
    assert "3 steps in a row failed" in caplog.text


@pytest.mark.parametrize("limit", [0, 3])
def test_failed_steps_between_good_ones_do_not_end_the_engine(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    run, failing = BatchStep.run, threading.Event()

    def flaky(step: BatchStep, work: Any) -> Any:
        if failing.is_set():
            raise RuntimeError("a bad moment")
        return run(step, work)

    monkeypatch.setattr(BatchStep, "run", flaky)
    with Engine(model, EngineConfig(max_sessions=4, max_failed_steps=limit)) as engine:
        for _ in range(3):
            failing.set()
            for _ in range(2 if limit else 5):
                inbox = Inbox()
                engine.open(Start(), inbox).feed(s16(noise(1.0)))
                inbox.wait_for("error")
            failing.clear()
            inbox = Inbox()
            session = engine.open(Start(), inbox)
            session.feed(s16(noise(1.0)))
            session.stop()
            inbox.wait_for("done")
        assert engine.alive


def test_a_failing_decoder_or_sink_fails_its_session_alone(
    engine: Engine, gate: _Gate, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = Captioner.end_chunk
    broken: list[Captioner] = []

    def maybe(captioner: Captioner, chunk: Any, state: Any, events: Any) -> Any:
        if captioner in broken:
            raise ValueError("a decoder's bug")
        return end(captioner, chunk, state, events)

    def raising(message: object) -> None:
        raise RuntimeError("a receiver's bug")

    monkeypatch.setattr(Captioner, "end_chunk", maybe)
    doomed, fine = Inbox(), Inbox()
    victim, deaf, healthy = (engine.open(Start(), sink) for sink in (doomed, raising, fine))
    broken.append(victim.captioner)
    samples = noise(1.0, seed=1)
    gate.shut()
    for session in (victim, deaf, healthy):
        session.feed(s16(samples))
        session.stop()
    gate.open.set()
    assert doomed.wait_for("error", "done").type == "error"
    fine.wait_for("done")
    assert fine.text() == final_text(messages_of(model, samples))
    assert engine.stats().decode_failures == 2
    assert engine.drain(timeout_s=30)


def test_nan_log_probs_fail_their_session_alone(
    engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = noise(1.0, seed=1)
    healthy_text = final_text(messages_of(model, samples))
    run = BatchStep.run
    doomed, fine = Inbox(), Inbox()
    victim, healthy = (engine.open(Start(), sink) for sink in (doomed, fine))

    def sick(step: BatchStep, work: Any) -> Any:
        result = run(step, work)
        for (slot, _), log_probs_TV in zip(work, result.log_probs, strict=True):
            if slot == victim.queued.slot:
                log_probs_TV[:] = np.nan
        return result

    monkeypatch.setattr(BatchStep, "run", sick)
    for session in (victim, healthy):
        session.feed(s16(samples))
        session.stop()
    assert doomed.wait_for("error", "done").type == "error"
    fine.wait_for("done")
    assert fine.text() == healthy_text
    assert engine.stats().decode_failures == 1


def test_a_bad_chunk_in_a_batch_fails_its_session_alone(
    engine: Engine, gate: _Gate, model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = noise(1.0, seed=1)
    healthy_text = final_text(messages_of(model, samples))
    doomed, fine, first = Inbox(), Inbox(), Inbox()
    victim, healthy, blocker = (engine.open(Start(), sink) for sink in (doomed, fine, first))
    run = BatchStep.run
    neighbours: list[int] = []

    def corrupt(step: BatchStep, chunks: Any) -> Any:
        result = run(step, chunks)
        for (slot, _), log_probs_TV in zip(chunks, result.log_probs, strict=True):
            if slot == victim.queued.slot:
                neighbours.append(len(chunks) - 1)
                log_probs_TV[:] = np.nan
        return result

    monkeypatch.setattr(BatchStep, "run", corrupt)
    gate.shut()
    blocker.feed(s16(noise(0.4)))
    gate.wait_reached()
    for session in (victim, healthy):
        session.feed(s16(samples))
        session.stop()
    gate.open.set()
    assert doomed.wait_for("error", "done").type == "error"
    fine.wait_for("done")
    assert neighbours == [1]
    assert fine.text() == healthy_text
    assert engine.stats().decode_failures == 1


def test_log_probs_are_checked_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    check, run = BeamDecoder.check, BatchStep.run
    checked: list[LogProbs] = []
    computed: list[LogProbs] = []

    def counting_check(decoder: BeamDecoder, log_probs_TV: LogProbs) -> None:
        checked.append(log_probs_TV)
        check(decoder, log_probs_TV)

    def counting_run(step: BatchStep, chunks: Any) -> Any:
        result = run(step, chunks)
        computed.extend((*result.log_probs, *(row_TV for row_TV in result.lookahead if len(row_TV))))
        return result

    monkeypatch.setattr(BeamDecoder, "check", counting_check)
    monkeypatch.setattr(BatchStep, "run", counting_run)
    inbox = Inbox()
    session = engine.open(Start(), inbox)
    session.feed(s16(noise(1.0)))
    session.stop()
    inbox.wait_for("done")
    assert len(computed) > 2
    assert [id(log_probs_TV) for log_probs_TV in checked] == [id(log_probs_TV) for log_probs_TV in computed]


def test_a_decoder_that_fails_for_all_leaves_the_engine_alive(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(UtteranceDecoder, "step_all", fail)
        doomed = Inbox()
        engine.open(Start(), doomed).feed(s16(noise(1.0)))
        assert doomed.wait_for("error", "done").type == "error"
    fine = Inbox()
    session = engine.open(Start(), fine)
    session.feed(s16(noise(1.0)))
    session.stop()
    fine.wait_for("done")
    assert engine.alive


def test_sessions_beyond_the_limit_are_refused_until_one_leaves(engine: Engine) -> None:
    sessions = [engine.open(Start(), Inbox()) for _ in range(4)]
    with pytest.raises(OverloadedError) as caught:
        engine.open(Start(), Inbox())
    assert caught.value.retry_after_ms == CONFIG.retry_after_ms
    sessions[0].abort()
    engine.open(Start(), Inbox())


def test_a_session_that_leaves_during_a_step_gets_no_message_and_its_slot_is_clean(
    engine: Engine, gate: _Gate, model: LoadedModel
) -> None:
    gone, next_one = Inbox(), Inbox()
    first = engine.open(Start(), gone)
    gate.shut()
    first.feed(s16(noise(1.0)))
    gate.wait_reached()
    first.abort()
    second = engine.open(Start(), next_one)
    assert second.queued.slot == first.queued.slot
    samples = noise(1.5, seed=7)
    second.feed(s16(samples))
    second.stop()
    gate.open.set()
    next_one.wait_for("done")
    assert gone.messages == []
    assert next_one.messages == messages_of(model, samples)


def test_congestion_is_reported_and_relieved_without_losing_a_sample(
    engine: Engine, gate: _Gate, model: LoadedModel
) -> None:
    hop_ms = 320 // model.encoder.hops_per_chunk
    inbox, resumed = Inbox(), threading.Event()
    session = engine.open(Start(), inbox, resumed.set)
    gate.shut()
    session.feed(s16(noise(1.0)))
    gate.wait_reached()
    session.feed(s16(noise((hop_ms - 20) / 1_000)))
    assert not session.congested
    session.feed(s16(noise(0.1)))
    assert session.congested
    assert session.backlog_ms == 1_080
    gate.open.set()
    assert resumed.wait(timeout=30)
    assert not session.congested
    session.stop()
    assert inbox.wait_for("done") == Done(audio_ms=1_080 + hop_ms)


def test_draining_finishes_open_utterances_and_admits_no_session(engine: Engine, model: LoadedModel) -> None:
    samples = noise(1.7, seed=8)
    inboxes = [Inbox(), Inbox()]
    sessions = [engine.open(Start(), inbox) for inbox in inboxes]
    for session in sessions:
        session.feed(s16(samples))
    assert engine.drain(timeout_s=30)
    for inbox in inboxes:
        assert inbox.messages == messages_of(model, samples)
    with pytest.raises(OverloadedError) as caught:
        engine.open(Start(), Inbox())
    assert caught.value.code == "shutting_down"


def test_draining_gives_up_when_its_time_is_over(engine: Engine, gate: _Gate) -> None:
    session = engine.open(Start(), Inbox())
    gate.shut()
    session.feed(s16(noise(0.5)))
    assert not engine.drain(timeout_s=0.01)


def test_closing_sends_an_error_to_open_sessions(model: LoadedModel) -> None:
    inbox = Inbox()
    engine = Engine(model, CONFIG)
    engine.open(Start(), inbox)
    engine.close()
    engine.close()
    assert not engine.alive
    error = inbox.wait_for("error")
    assert isinstance(error, Error)
    assert error.code == "shutting_down"


def test_bad_requests_are_refused_at_once_and_leave_the_session_as_it_was(
    engine: Engine, gate: _Gate
) -> None:
    inbox = Inbox()
    session = engine.open(Start(), inbox)
    with pytest.raises(AudioError, match="an Ogg stream"):
        engine.open(Start(), Inbox()).feed(b"OggS and more")
    with pytest.raises(ProtocolError, match="encoding"):
        engine.open(Start(encoding="mp3"), Inbox())
    gate.shut()
    session.feed(s16(noise(0.5)))
    session.stop()
    session.stop()
    with pytest.raises(ProtocolError, match="audio came after stop"):
        session.feed(b"")
    with pytest.raises(ProtocolError, match="finalize came after stop"):
        session.finalize("")
    gate.open.set()
    assert inbox.wait_for("done") == Done(audio_ms=500)


def test_samples_may_be_split_over_messages(engine: Engine, model: LoadedModel) -> None:
    samples = noise(2.0, seed=9)
    data = s16(samples)
    inbox = Inbox()
    session = engine.open(Start(), inbox)
    for offset in range(0, len(data), 333):
        session.feed(data[offset : offset + 333])
        if offset == 333:
            session.finalize("inside a sample")
    session.stop()
    inbox.wait_for("done")
    local = LocalSession(model)
    expected = [*local.feed(samples[:333]), *local.finalize("inside a sample")]
    assert inbox.messages == [*expected, *local.feed(samples[333:]), *local.stop()]


def test_half_a_sample_at_the_end_is_ignored_with_a_warning(engine: Engine) -> None:
    inbox = Inbox()
    session = engine.open(Start(), inbox)
    session.feed(s16(noise(0.5)) + b"x")
    session.stop()
    assert inbox.wait_for("done") == Done(audio_ms=500)
    (warning,) = [message for message in inbox.messages if isinstance(message, Warning)]
    assert (warning.code, "last 1 bytes" in warning.message) == ("suspicious_audio", True)


def test_speech_in_another_encoding_brings_one_warning(engine: Engine, clip: Samples) -> None:
    inbox = Inbox()
    session = engine.open(Start(), inbox)
    data = (clip * 32_767).astype(">i2").tobytes()
    for offset in range(0, len(data), 1_280):
        session.feed(data[offset : offset + 1_280])
    session.stop()
    inbox.wait_for("done")
    (warning,) = [message for message in inbox.messages if isinstance(message, Warning)]
    assert warning.code == "suspicious_audio"
    assert "start stated pcm_s16le samples, but they look like big-endian 16-bit" in warning.message


def test_a_float_error_names_the_likely_encoding(engine: Engine, clip: Samples) -> None:
    session = engine.open(Start(encoding="pcm_f32le"), Inbox())
    with pytest.raises(AudioError) as caught:
        session.feed(s16(clip)[32_000:48_000])
    assert 'look like pcm_s16le; set "encoding":"pcm_s16le" in start' in caught.value.message


@pytest.mark.parametrize("step", [5, 4_096])
def test_a_wav_file_of_another_format_is_refused_and_one_of_this_format_is_taken(
    engine: Engine, clip: Samples, step: int
) -> None:
    for rate, refused in ((16_000, False), (44_100, True)):
        file = io.BytesIO()
        soundfile.write(file, clip[:16_000], rate, format="WAV", subtype="PCM_16")
        data = file.getvalue()[:8_000]
        session = engine.open(Start(), Inbox())
        expected = pytest.raises(AudioError, match="a WAV file of pcm_s16le at 44100 Hz with 1 channel")
        with expected if refused else nullcontext():
            for offset in range(0, len(data), step):
                session.feed(data[offset : offset + step])
        session.abort()


def test_hotwords_can_change_while_it_runs(engine: Engine, model: LoadedModel) -> None:
    samples = noise(3.0, seed=1)
    plain = final_text(messages_of(model, samples, Start(latency_ms=80)))
    hotword = HotwordSpec(text=max(plain.replace(" ", ""), key=plain.count), boost=20.0)
    inbox = Inbox()
    session = engine.open(Start(latency_ms=80), inbox)
    session.configure([hotword])
    session.feed(s16(samples))
    session.stop()
    inbox.wait_for("done")
    started_with = Start(latency_ms=80, hotwords=(hotword,))
    assert inbox.text() == final_text(messages_of(model, samples, started_with))
    assert inbox.text() != plain


def test_a_session_starts_without_its_unusable_hotwords(engine: Engine, model: LoadedModel) -> None:
    samples = noise(3.0, seed=1)
    plain = final_text(messages_of(model, samples, Start(latency_ms=80)))
    hotword = HotwordSpec(text=max(plain.replace(" ", ""), key=plain.count), boost=20.0)
    inbox = Inbox()
    session = engine.open(Start(latency_ms=80, hotwords=(HotwordSpec(text="xyz"), hotword)), inbox)
    assert session.ready.hotwords == (
        HotwordReading(text="xyz"),
        HotwordReading(text=hotword.text, read_as=hotword.text),
    )
    session.feed(s16(samples))
    session.stop()
    inbox.wait_for("done")
    first = inbox.messages[0]
    assert isinstance(first, Warning)
    assert (first.code, "'xyz'" in first.message) == ("bad_hotwords", True)
    started_with = Start(latency_ms=80, hotwords=(hotword,))
    assert inbox.text() == final_text(messages_of(model, samples, started_with)) != plain


def test_unusable_hotwords_are_named_and_the_old_ones_stay(engine: Engine, model: LoadedModel) -> None:
    samples = noise(3.0, seed=1)
    plain = final_text(messages_of(model, samples, Start(latency_ms=80)))
    hotword = HotwordSpec(text=max(plain.replace(" ", ""), key=plain.count), boost=20.0)
    started_with = Start(latency_ms=80, hotwords=(hotword,))
    inbox = Inbox()
    session = engine.open(started_with, inbox)
    session.configure([HotwordSpec(text="abc"), HotwordSpec(text="xyz"), HotwordSpec(text="q")])
    session.feed(s16(samples))
    session.stop()
    inbox.wait_for("done")
    (warning,) = [message for message in inbox.messages if isinstance(message, Warning)]
    assert warning.code == "bad_hotwords"
    assert "'xyz'" in warning.message
    assert "'q'" in warning.message
    assert "'abc'" not in warning.message
    assert inbox.text() == final_text(messages_of(model, samples, started_with)) != plain


def test_stereo_mulaw_at_44100_is_decoded_mixed_and_resampled(engine: Engine, model: LoadedModel) -> None:
    data = bytes(range(256)) * 1_000
    inbox = Inbox()
    session = engine.open(Start(sample_rate=44_100, encoding="mulaw", channels=2), inbox)
    session.feed(data)
    session.stop()
    frames = len(decode_pcm(data, "mulaw", 2))
    assert inbox.wait_for("done") == Done(audio_ms=round(frames / 44.1))
