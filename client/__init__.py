"""Connect to the daemon: audio sources, sessions, live captions in a terminal, subtitles and the captions page.

The client uses the protocol (``streamasr.protocol``), but no model and no engine.
"""
