"""Test that settings are changed in place and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamasr.config import ModelConfig
from streamasr.errors import ConfigError
from streamasr.evaluation.settings import write_settings
from streamasr.toml import load_toml

CONFIG = """\
name = "made"  # a comment

[decoder]
alpha = 0.5  # weighed by hand

[endpointing]
silence_ms = 700
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(CONFIG, encoding="utf-8")
    return file


def test_a_key_is_replaced_or_added_in_its_table(path: Path) -> None:
    write_settings(path, "decoder", {"alpha": 0.75, "beta": 2.0})
    text = path.read_text(encoding="utf-8")
    assert "alpha = 0.75  # weighed by hand" in text
    assert text.index("[decoder]") < text.index("beta = 2.0") < text.index("[endpointing]")
    assert text.startswith('name = "made"  # a comment\n')


def test_a_missing_table_goes_to_the_end(path: Path) -> None:
    write_settings(path, "confidence", {"method": "logistic", "bias": -0.5, "share": 0.7})
    assert path.read_text(encoding="utf-8").startswith(CONFIG)
    found = load_toml(ModelConfig, path)
    assert (found.confidence.method, found.confidence.bias, found.confidence.share) == ("logistic", -0.5, 0.7)
    assert found.endpointing.silence_ms == 700
    write_settings(path, "confidence", {"bias": 1.0})
    assert load_toml(ModelConfig, path).confidence.share == 0.7


def test_an_invalid_configuration_is_not_written(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"confidence\.method"):
        write_settings(path, "confidence", {"method": "guessed"})
    assert path.read_text(encoding="utf-8") == CONFIG
