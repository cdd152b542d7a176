"""Test that the outbox is bounded, keeps the newest partial, and loses nothing else."""

import asyncio

import pytest

from streamasr.dialects.base import Reply
from streamasr.protocol.messages import (
    Done,
    Error,
    Final,
    Finalized,
    Partial,
    ServerMessage,
    SpeechStarted,
    UtteranceEnding,
)
from streamasr.service.outbox import Outbox


def partial(number: int, utterance: int = 0) -> Partial:
    return Partial(utterance=utterance, committed="", tail=str(number), start_ms=0, end_ms=0)


def final(utterance: int) -> Final:
    return Final(utterance=utterance, text="x", confidence=1, start_ms=0, end_ms=0)


async def drained(outbox: Outbox) -> list[ServerMessage | Reply]:
    outbox.close()
    messages = []
    while (queued := await outbox.get()) is not None:
        messages.append(queued.message)
    return messages


async def test_order_is_kept_and_partials_are_replaced() -> None:
    outbox = Outbox(10)
    started, done = SpeechStarted(at_ms=1), Finalized(id="x")
    for message in (
        started,
        partial(1),
        partial(2),
        final(0),
        partial(3, 1),
        done,
        partial(4, 1),
        partial(5, 2),
    ):
        assert outbox.put(message, 0.0)
    assert await drained(outbox) == [started, final(0), partial(3, 1), done, partial(4, 1), partial(5, 2)]


async def test_a_full_outbox_refuses_messages_and_loses_none() -> None:
    outbox = Outbox(2)
    assert outbox.put(final(0), 0.0)
    assert outbox.put(partial(1, 1), 0.0)
    assert outbox.put(partial(2, 1), 0.0)
    assert not outbox.put(final(2), 0.0)
    assert await drained(outbox) == [final(0), partial(2, 1)]


async def test_the_last_message_ignores_the_limit_and_closes_the_outbox() -> None:
    outbox = Outbox(1)
    outbox.put(final(0), 0.0)
    outbox.put_last(Done(audio_ms=1), 0.0)
    outbox.put_last(Done(audio_ms=2), 0.0)
    assert outbox.put(final(1), 0.0)
    assert await drained(outbox) == [final(0), Done(audio_ms=1)]


async def test_the_last_message_can_discard_queued_ones() -> None:
    outbox = Outbox(5)
    outbox.put(final(0), 0.0)
    error = Error(code="slow_reader", message="m", fault="client")
    outbox.put_last(error, 0.0, drop_waiting=True)
    assert await drained(outbox) == [error]


@pytest.mark.parametrize("close", [True, False])
async def test_get_waits_for_put_or_close(close: bool) -> None:
    outbox = Outbox(5)
    reader = asyncio.create_task(outbox.get())
    await asyncio.sleep(0)
    if close:
        outbox.close()
        assert await reader is None
    else:
        outbox.put(final(0), 1.5)
        assert await reader == (final(0), 1.5)


async def test_room_is_waited_for_until_half_of_the_limit_is_free_or_the_outbox_is_closed() -> None:
    outbox = Outbox(4)
    for _ in range(3):
        outbox.put(Reply("x"), 0.0)
    waiting = asyncio.create_task(outbox.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    await outbox.get()
    await asyncio.wait_for(waiting, 60)
    outbox.put(Reply("x"), 0.0)
    waiting = asyncio.create_task(outbox.wait_for_room())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.close()
    await asyncio.wait_for(waiting, 60)


@pytest.mark.parametrize("sent", [False, True])
async def test_a_partial_that_takes_an_ending_back_comes_before_the_final(sent: bool) -> None:
    outbox = Outbox(10)
    ending = UtteranceEnding(utterance=0, probability=0.5, text="y", start_ms=0, end_ms=0)
    outbox.put(ending, 0.0)
    if sent:
        assert (await outbox.get()) is not None
    for message in (partial(1), partial(2), final(0)):
        outbox.put(message, 0.0)
    assert await drained(outbox) == [*([] if sent else [ending]), partial(2), final(0)]
