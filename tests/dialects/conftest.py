"""Share the daemon with the tiny model."""

from tests.integration.conftest import daemon, tiny_folder

__all__ = ["daemon", "tiny_folder"]
