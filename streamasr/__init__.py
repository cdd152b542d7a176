"""streamasr: a streaming speech recogniser for live captions."""

__version__ = "0.1.0"
