"""How the native core is compiled: its own sources, and nanobind's library, which nanobind ships as source.

Used by setuptools (``[tool.setuptools.cmdclass]`` in ``pyproject.toml``), never at run time.
"""

from __future__ import annotations

import copy
from pathlib import Path

from setuptools import Extension
from setuptools.command.build_ext import build_ext

WHOLE_LIBRARY = "nb_combined.cpp"


class BuildNative(build_ext):
    """``build_ext`` that finds nanobind, and builds anew when a header has changed."""

    def build_extension(self, ext: Extension) -> None:
        """Compile and link ``ext`` together with nanobind, which is no source of the project's own."""
        import nanobind

        library = Path(nanobind.source_dir())
        headers = Path(ext.sources[0]).parent.glob("*.hpp")
        whole = copy.copy(ext)
        whole.depends = [*ext.depends, *sorted(str(path) for path in headers)]
        whole.include_dirs = [
            *ext.include_dirs,
            nanobind.include_dir(),
            str(library.parent / "ext" / "robin_map" / "include"),
        ]
        whole.sources = [*ext.sources, str(library / WHOLE_LIBRARY)]
        super().build_extension(whole)
