"""The captions page: what the daemon may serve, and nothing else is served.

``index.html`` answers ``/``; every other name answers ``/assets/<name>``. The page has no build step, no
inline script or style and no asset from elsewhere, so that it runs under ``Content-Security-Policy:
default-src 'self'``.
"""

from __future__ import annotations

INDEX = "index.html"

ASSETS: tuple[tuple[str, str], ...] = (
    (INDEX, "text/html; charset=utf-8"),
    ("captions.css", "text/css; charset=utf-8"),
    ("icon.svg", "image/svg+xml"),
    ("audio-worklet.js", "text/javascript; charset=utf-8"),
    ("captions.js", "text/javascript; charset=utf-8"),
    ("download.js", "text/javascript; charset=utf-8"),
    ("level.js", "text/javascript; charset=utf-8"),
    ("live.js", "text/javascript; charset=utf-8"),
    ("looks.js", "text/javascript; charset=utf-8"),
    ("main.js", "text/javascript; charset=utf-8"),
    ("microphone.js", "text/javascript; charset=utf-8"),
    ("protocol.js", "text/javascript; charset=utf-8"),
    ("settings.js", "text/javascript; charset=utf-8"),
    ("subtitles.js", "text/javascript; charset=utf-8"),
)
"""Every file of the page in this package and its content type."""
