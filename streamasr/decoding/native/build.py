"""Compile the native core together with nanobind's library, which nanobind ships as source.

Setuptools uses it (``[tool.setuptools.cmdclass]`` in ``pyproject.toml``); nothing imports it at run time.
"""

from __future__ import annotations

import copy
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

NANOBIND_SOURCE = "nb_combined.cpp"


class BuildNative(build_ext):
    """A ``build_ext`` that adds nanobind to the extension and rebuilds it when a header has changed."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link ``ext`` together with nanobind."""
        import nanobind

        library = Path(nanobind.source_dir())
        headers = Path(ext.sources[0]).parent.glob("*.hpp")
        extended = copy.copy(ext)
        extended.depends = [*ext.depends, *sorted(str(path) for path in headers)]
        extended.include_dirs = [
            *ext.include_dirs,
            nanobind.include_dir(),
            str(library.parent / "ext" / "robin_map" / "include"),
        ]
        extended.sources = [*ext.sources, str(library / NANOBIND_SOURCE)]
        super().build_extension(extended)
