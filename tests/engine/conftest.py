"""Provide the tiny model of the recognition tests."""

from tests.recognition.conftest import model

__all__ = ["model"]
