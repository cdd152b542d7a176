"""Change single settings of a model folder's ``config.toml`` and leave all other characters unchanged."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from streamasr.config import ModelConfig
from streamasr.textfile import read_text
from streamasr.toml import from_mapping, load_toml


def write_settings(path: Path, table: str, values: Mapping[str, float | str]) -> None:
    """Set keys of one table of a model's configuration.

    Args:
        path: the ``config.toml``.
        table: its name, for example ``decoder``; appended to the file if missing.
        values: keys and values to set.

    Raises:
        ConfigError: the file is not a model's configuration, or would not be one afterwards.
    """
    config = load_toml(ModelConfig, path)
    part = getattr(config, table)
    wanted = from_mapping(type(part), {**_fields(part), **values}, table)
    text = read_text(path)
    header = rf"(?m)^(\[{re.escape(table)}\][^\n]*\n)"
    if not re.search(header, text):
        text = f"{text.rstrip()}\n\n[{table}]\n"
    before, name, section = re.split(header, text, maxsplit=1)
    section, following, rest = (*re.split(r"(?m)^(\[)", section, maxsplit=1), "", "")[:3]
    for key, value in values.items():
        line = f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {float(value)!r}"
        section, found = re.subn(rf"(?m)^{key}[ \t]*=[^\n#]*?(?=[ \t]*(?:#|$))", line, section)
        if not found:
            section = f"{line}\n{section}"
    partial = path.with_suffix(".partial")
    partial.write_text(before + name + section + following + rest, encoding="utf-8")
    assert load_toml(ModelConfig, partial) == replace(config, **{table: wanted})
    partial.replace(path)


def _fields(part: object) -> dict[str, object]:
    return {name: getattr(part, name) for name in part.__dataclass_fields__}  # type: ignore[attr-defined]
