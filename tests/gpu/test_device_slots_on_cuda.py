"""Compare recorded steps on a CUDA device with launched ones; skipped without a device."""

from __future__ import annotations

import pytest
import torch

from streamasr.acoustic import Encoder
from streamasr.recognition.device_slots import DeviceSlots
from streamasr.recognition.model import LoadedModel
from streamasr.recognition.slots import CopiedSlots
from tests.recognition.device_slots_runs import BATCHES, SLOTS, largest_difference
from tests.recognition.tiny import tiny_fastconformer, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
MODELS = {
    "whisper": tiny_model(),
    "whisper with look-ahead": tiny_model(hops_per_chunk=2),
    "fastconformer": tiny_fastconformer("current"),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_recorded_steps_give_the_same_log_probs(model: LoadedModel) -> None:
    assert isinstance(model.encoder, Encoder)
    encoder = model.encoder.to("cuda")
    recorded = DeviceSlots(encoder, SLOTS, "cuda", record=True)
    copied = CopiedSlots(encoder, SLOTS, "cuda")
    features = model.config.frontend.features
    assert largest_difference(encoder, features, recorded, copied, rounds=4) <= 1e-3
    sizes = {len(batch) for batch in BATCHES}
    assert 0 < recorded.graphs <= len(sizes)
