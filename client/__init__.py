"""Clients of the daemon: microphone and file sources, the socket, caption rendering, subtitles and the web
page.

Knows the protocol (``streamasr.protocol``) and nothing of models or engines.
"""
