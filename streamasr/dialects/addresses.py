"""Know the forms in which clients write the paths of dialects."""

from __future__ import annotations

import re

_SLASHES = re.compile("/{2,}")
_OPENAI = re.compile(r"/openai/(?:v1/|deployments/[^/]+/)?(?=(?:audio/|realtime$|models(?:/|$)))")
"""What OpenAI's paths begin with on Azure and on some other hosts, in place of ``/v1/``."""


def canonical_path(path: str) -> str:
    """Return a request's path in the form that dialects list.

    A slash more, as between a base URL that ends with one and a path that begins with one, and a slash at the end
    make no difference. ``/openai/v1/…``, and Azure's ``/openai/deployments/NAME/…`` and ``/openai/realtime``, are
    the paths of OpenAI's dialects below ``/v1/``.
    """
    path = _SLASHES.sub("/", path)
    path = path.rstrip("/") or "/"
    return _OPENAI.sub("/v1/", path, count=1) if path.startswith("/openai/") else path
