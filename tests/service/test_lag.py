"""Test the measured lags of simulated streams with known delays."""

import pytest

from streamasr.service.lag import SentAudio, StreamLag, percentiles

CHUNK_MS = 640


def played(until_ms: int) -> SentAudio:
    """Return audio that was sent in real time, from second 0 on."""
    sent = SentAudio()
    for end_ms in range(40, until_ms + 1, 40):
        sent.add(end_ms, end_ms / 1_000)
    return sent


def partial_lags(lag: StreamLag) -> list[float]:
    return [lag_ms for _, lag_ms in lag.partials()]


def lags_of_stream(delay_ms: int, words_every_ms: int = 200, hop_ms: int = CHUNK_MS) -> list[float]:
    """Simulate partials that arrive ``delay_ms`` after their chunk, and whose last word ends in the step's hop."""
    sent = SentAudio()
    lag = StreamLag(CHUNK_MS, sent, hop_ms)
    events = [(end_ms, "sent", end_ms) for end_ms in range(40, 20_001, 40)]
    for end_ms in range(hop_ms, 20_000 - CHUNK_MS, hop_ms):
        chunk_end_ms = end_ms + CHUNK_MS - hop_ms
        events.append((chunk_end_ms + delay_ms, "partial", end_ms // words_every_ms * words_every_ms))
    for at_ms, what, value in sorted(events, key=lambda event: (event[0], event[1] == "partial")):
        (sent.add if what == "sent" else lag.partial)(value, at_ms / 1_000)
        if at_ms > 19_000:
            break
    return partial_lags(lag)


@pytest.mark.parametrize("delay_ms", [0, 20, 300, 620])
def test_a_stream_that_keeps_up(delay_ms: int) -> None:
    lags = lags_of_stream(delay_ms)
    assert len(lags) > 20
    assert lags == pytest.approx([delay_ms] * len(lags))


@pytest.mark.parametrize("delay_ms", [900, 1_500, 3_000])
def test_a_stream_that_is_whole_chunks_behind(delay_ms: int) -> None:
    assert percentiles(lags_of_stream(delay_ms))["p50"] == pytest.approx(delay_ms)


@pytest.mark.parametrize("delay_ms", [0, 150, 900])
def test_a_stream_with_look_ahead(delay_ms: int) -> None:
    assert percentiles(lags_of_stream(delay_ms, 160, hop_ms=320))["p50"] == pytest.approx(delay_ms)


def test_a_late_correction_of_an_old_word_is_no_lag() -> None:
    sent = played(2_000)
    lag = StreamLag(CHUNK_MS, sent)
    lag.partial(1_910, 2.0)
    lag.partial(1_100, 2.05)
    assert partial_lags(lag) == pytest.approx([80, 130])


def test_words_that_are_shown_one_hop_late_by_chance_are_no_lag() -> None:
    sent = SentAudio()
    lag = StreamLag(CHUNK_MS, sent, 320)
    for number in range(1, 100):
        sent.add(number * 320, number * 0.32)
        # At the start of a stream, and later five times in a row, the newest word ends in the hop before.
        late = number < 4 or 40 <= number < 45
        lag.partial(number * 320 - (640 if late else 330), number * 0.32 + 0.02)
    assert len(partial_lags(lag)) == 98
    assert partial_lags(lag) == pytest.approx([20] * 98)


def test_the_last_partials_count_from_the_end_of_the_stream() -> None:
    lag = StreamLag(CHUNK_MS, played(1_200))
    lag.stop()
    lag.partial(1_100, 1.25)
    assert partial_lags(lag) == pytest.approx([50])
    assert [at for at, _ in lag.partials()] == [1.25]


def test_nothing_is_counted_before_a_chunk_is_complete() -> None:
    lag = StreamLag(CHUNK_MS, played(600))
    lag.partial(300, 0.6)
    assert partial_lags(lag) == []
    assert lag.first_partial_ms == pytest.approx(560)


def test_the_lag_of_finals_counts_from_their_last_word() -> None:
    lag = StreamLag(CHUNK_MS, played(4_000))
    lag.final(1_000, 2.5)
    lag.final(9_000, 4.0)
    assert lag.final_ms == pytest.approx([1_500])


def test_percentiles() -> None:
    assert percentiles(range(101)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([]) == {"p50": None, "p95": None, "p99": None}
