"""The tiny model, once a run."""

import pytest

from streamasr.engine.model import LoadedModel
from tests.engine.tiny import tiny_model


@pytest.fixture(scope="session")
def model() -> LoadedModel:
    return tiny_model()
