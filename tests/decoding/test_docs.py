"""Test that the documents have every setting of the decoder with its default."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from streamasr.config import DecoderConfig, EndpointConfig, StabilityConfig

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in ("decoding.md", "endpoints.md"))


@pytest.mark.parametrize(
    "config",
    [DecoderConfig(), EndpointConfig(), StabilityConfig()],
    ids=["decoder", "endpointing", "stability"],
)
def test_every_setting_is_documented_with_its_default(
    config: DecoderConfig | EndpointConfig | StabilityConfig,
) -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| (\S+) \|", TEXT, flags=re.MULTILINE))
    for field in dataclasses.fields(config):
        default = getattr(config, field.name)
        shown = str(default).lower() if default is None or isinstance(default, bool) else f"{default:g}"
        assert rows.get(field.name) in (shown, str(default)), field.name
