"""Provide the daemons that the files of deploy/ are checked against."""

from tests.integration.conftest import tiny_folder
from tests.service.conftest import launch

__all__ = ["launch", "tiny_folder"]
