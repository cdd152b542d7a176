"""Slots for a GPU, rehearsed on the CPU: padded batches give what batches as they are give."""

from __future__ import annotations

import pytest

from streamasr.recognition.device_slots import DeviceSlots, padded_batch
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.slots import CopiedSlots
from tests.recognition.device_slots_runs import SLOTS, largest_difference
from tests.recognition.tiny import tiny_fastconformer, tiny_model

MODELS = {
    "whisper": tiny_model(),
    "whisper with look-ahead": tiny_model(hops_per_chunk=2),
    "fastconformer": tiny_fastconformer("current"),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_padded_batches_give_the_same_log_probs(model: LoadedModel) -> None:
    encoder = model.encoder
    padded = DeviceSlots(encoder, SLOTS, "cpu", record=False)
    copied = CopiedSlots(encoder, SLOTS, "cpu")
    assert largest_difference(encoder, model.config.frontend.features, padded, copied) <= 1e-5
    assert padded.graphs == 0


def test_a_batch_is_padded_to_a_power_of_two() -> None:
    assert [padded_batch(batch) for batch in (1, 2, 3, 4, 5, 8, 9, 1000)] == [1, 2, 4, 4, 8, 8, 16, 1024]
