"""Load the files of the captions page into memory at start-up, so that a request can reach no other file."""

from __future__ import annotations

import hashlib
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass

PAGE_PACKAGE = "streamasr_client.web"
INDEX = "index.html"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Suffix to content type. Files with other suffixes are not served."""

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), display-capture=(), geolocation=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""The page loads nothing from other hosts, connects to its own daemon only, and cannot be framed."""

DATA_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""Of answers that are no part of the page: a browser that is led to one shows it as data and runs nothing."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file with its response headers."""

    body: bytes
    content_type: str
    etag: str


def load_assets(package: str = PAGE_PACKAGE) -> Mapping[str, Asset]:
    """Map request paths to files; ``/`` is the page itself. Empty if ``package`` is not installed."""
    try:
        folder = importlib.resources.files(package)
    except ModuleNotFoundError:
        return {}
    assets = {}
    for entry in folder.iterdir():
        suffix = "." + entry.name.rpartition(".")[2]
        if entry.is_file() and suffix in CONTENT_TYPES:
            body = entry.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            assets[f"/{entry.name}"] = Asset(body, CONTENT_TYPES[suffix], etag)
    if f"/{INDEX}" in assets:
        assets["/"] = assets[f"/{INDEX}"]
    return assets
