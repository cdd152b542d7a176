"""Provide the tiny model, once with whole chunks as hops and once with half chunks and look-ahead."""

import pytest

from streamasr.recognition.model import LoadedModel
from tests.recognition.tiny import tiny_model


@pytest.fixture(scope="session", params=[1, 2], ids="{} hops".format)
def model(request: pytest.FixtureRequest) -> LoadedModel:
    return tiny_model(hops_per_chunk=request.param)
