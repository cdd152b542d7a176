"""Convert TOML and other mappings to frozen dataclasses and back.

Unknown keys, missing keys and wrong types are refused with their full name, for example
``encoder.layers: expected int, got str``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from streamasr.errors import ConfigError
from streamasr.textfile import read_text

T = TypeVar("T")


def from_mapping(cls: type[T], mapping: Mapping[str, Any], where: str = "") -> T:
    """Build the dataclass ``cls`` from nested mappings, strictly.

    Args:
        cls: a dataclass type; nested dataclasses, tuples, literals and optionals are followed. Of a union of
            dataclasses, the mapping's ``family`` selects one; by default the first.
        mapping: the values, from TOML or JSON.
        where: the name of this part, a prefix of all names in errors.

    Raises:
        ConfigError: an unknown or missing key, or a value of the wrong type or out of range.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(
            f"{where or 'the configuration'}: expected names with values, got {type(mapping).__name__}"
        )
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in mapping.items():
        path = f"{where}.{key}" if where else key
        if key not in fields:
            known = ", ".join(fields)
            raise ConfigError(f"{path}: unknown field; known fields are {known}")
        values[key] = _convert(hints[key], value, path)
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{where + '.' if where else ''}{name}: missing")
    with in_table(where):
        return cls(**values)


@contextlib.contextmanager
def in_table(where: str) -> Iterator[None]:
    """Put the path of a table before the errors of the dataclass that is built from it.

    A dataclass does not know which table it is read from, so its errors begin with the bare name of a field:
    ``dim must be …`` becomes ``encoder.dim must be …``.

    Args:
        where: the table's path, for example ``encoder``; empty for the whole file.

    Raises:
        ConfigError: the same error with the field's full path.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}.{error.message}" if where else error.message) from None


def _convert(hint: Any, value: Any, path: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, path)
    if origin is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{path}: expected one of {', '.join(map(repr, choices))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        args = [a for a in typing.get_args(hint) if a is not type(None)]
        if value is None and len(args) < len(typing.get_args(hint)):
            return None
        if value in _words(args):
            return value
        return _convert(_union_member(args, value, path), value, path)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path}: expected a list, got {type(value).__name__}")
        element = typing.get_args(hint)[0]
        return tuple(_convert(element, v, f"{path}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{path}: expected {hint.__name__}, got {type(value).__name__}")
    return value


def _words(kinds: list[Any]) -> list[Any]:
    """Return the words that a union of a type and words allows, such as ``auto``."""
    literals = [kind for kind in kinds if typing.get_origin(kind) is Literal]
    return [word for kind in literals for word in typing.get_args(kind)] if len(literals) < len(kinds) else []


def _union_member(kinds: list[Any], value: Any, path: str) -> Any:
    """Select the member of a union that ``value`` is for.

    Raises:
        ConfigError: there is none.
    """
    if words := _words(kinds):
        kinds = [kind for kind in kinds if typing.get_origin(kind) is not Literal]
        if not isinstance(value, kinds[0]):
            expected = " or ".join([kinds[0].__name__, *map(repr, words)])
            raise ConfigError(f"{path}: expected {expected}, got {value!r}")
    if len(kinds) == 1 or not isinstance(value, Mapping):
        return kinds[0]
    families = {typing.get_args(typing.get_type_hints(kind)["family"])[0]: kind for kind in kinds}
    family = value.get("family", next(iter(families)))
    if family not in families:
        known = ", ".join(map(repr, families))
        raise ConfigError(f"{path}.family: expected one of {known}, got {family!r}")
    return families[family]


def load_toml(cls: type[T], path: Path) -> T:
    """Read a TOML file into the dataclass ``cls``.

    Raises:
        ConfigError: the file is missing, is not TOML, or does not fit ``cls``; the message names the file.
    """
    try:
        mapping = tomllib.loads(read_text(path))
        return from_mapping(cls, mapping)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8: {error}") from None
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    except (ValueError, RecursionError) as error:  # also a number with too many digits for Python
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None


def to_toml(config: object) -> str:
    """Return a (nested) dataclass as TOML; :func:`load_toml` reads it back to an equal value."""
    lines: list[str] = []
    _write_table(config, "", lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _write_table(config: object, path: str, lines: list[str]) -> None:
    nested = []
    if path:
        lines.append(f"\n[{path}]")
    for f in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            nested.append((f.name, value))
        elif value is not None:
            lines.append(f"{f.name} = {_toml_value(value)}")
    for name, value in nested:
        _write_table(value, f"{path}.{name}" if path else name, lines)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Path)):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(v) for v in value) + "]"
    return repr(value)
