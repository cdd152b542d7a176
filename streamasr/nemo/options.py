"""Read a section of NeMo's configuration option by option; refuse unknown options by name and value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from streamasr.errors import ModelError

_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
_MISSING = object()


class Section:
    """A table of the configuration.

    Args:
        root: the whole configuration, for references such as ``${sample_rate}``.
        path: the table's dotted name.

    Raises:
        ModelError: there is no such table.
    """

    def __init__(self, root: Mapping[str, Any], path: str) -> None:
        self._root = root
        self.path = path
        table = _resolve(root, path)
        if not isinstance(table, Mapping):
            raise ModelError(f"{path}: missing, or not a table")
        self._table = table
        self._known: set[str] = set()

    def get(self, key: str, kind: type, default: Any = _MISSING) -> Any:
        """Read an option of type ``kind``; a missing or null option has its default.

        Raises:
            ModelError: it is missing and has no default, or it is of another type.
        """
        value = self._value(key, None)
        if value is None:
            if default is _MISSING:
                raise ModelError(f"{self.path}.{key}: missing")
            return default
        kinds = (float, int) if kind is float else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
            names = " or ".join(each.__name__ for each in kinds)
            raise ModelError(f"{self.path}.{key} = {value!r}: expected {names}")
        return value

    def require(self, key: str, *allowed: Any, default: Any = _MISSING) -> None:
        """Read an option that must have one of the values ``allowed``; null only if it is among them.

        A missing option has the value ``default``, or else the first of ``allowed``.

        Raises:
            ModelError: it has another value.
        """
        value = self._value(key, allowed[0] if default is _MISSING else default)
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed):
            can = " or ".join(repr(each) for each in allowed)
            raise ModelError(f"{self.path}.{key} = {value!r} is not supported, only {can}")

    def is_null(self, key: str) -> bool:
        """Whether an option is present and null, for options whose default is not null."""
        return key in self._table and self._table[key] is None

    def ignore(self, *keys: str) -> None:
        """Skip options that do not affect recognition."""
        self._known.update(keys)

    def refuse_unknown(self) -> None:
        """Refuse options that were not read.

        Raises:
            ModelError: such an option exists and is not null.
        """
        for key, value in self._table.items():
            if key not in self._known and value is not None:
                raise ModelError(f"{self.path}.{key} = {value!r} is an unknown option")

    def _value(self, key: str, default: Any) -> Any:
        self._known.add(key)
        value = self._table.get(key, default)
        if isinstance(value, str) and (reference := _REFERENCE.fullmatch(value)):
            return _resolve(self._root, reference[1].removeprefix("model."))
        return value


def _resolve(root: Mapping[str, Any], path: str) -> Any:
    value: Any = root
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
