"""Read how long a certificate is valid (RFC 5280, section 4.1); Python's ``ssl`` shows that of peers only."""

from __future__ import annotations

import datetime
import re
import ssl
from collections.abc import Iterator
from typing import NamedTuple

_LONG_LENGTH = 0x80
"""Lengths from here on are given in further bytes."""
_VERSION, _UTC_TIME = 0xA0, 0x17
"""Tags of the fields that are looked at."""
_VALIDITY = 3
"""Place of the validity in a certificate without its version: after serial number, algorithm and issuer."""
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_DAY_S = 86_400
_MOST_NOTICE_S = 14 * _DAY_S
_NOTICE_SHARE = 1 / 6
"""Programs renew certificates when a third of their life is left; half of that later, something is wrong."""


class Validity(NamedTuple):
    """When a certificate is valid, in seconds since 1970."""

    begin_s: float
    end_s: float

    @property
    def renew_by_s(self) -> float:
        """When a renewal is overdue: 14 days before the end, or a sixth of a short life."""
        return self.end_s - min(_MOST_NOTICE_S, (self.end_s - self.begin_s) * _NOTICE_SHARE)


def read_validity(pem: str) -> Validity | None:
    """Return when the first certificate of a chain is valid; ``None`` if it cannot be read."""
    found = _PEM.search(pem)
    if found is None:
        return None
    try:
        ((_, certificate),) = _elements(ssl.PEM_cert_to_DER_cert(found.group()))
        _, contents = next(_elements(certificate))
        fields = [content for tag, content in _elements(contents) if tag != _VERSION]
        begin, end = (_seconds(tag, content) for tag, content in _elements(fields[_VALIDITY]))
    except (ValueError, IndexError, StopIteration):
        return None
    return Validity(begin, end)


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tags and contents of the elements in a DER encoding."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length >= _LONG_LENGTH:
            count = length - _LONG_LENGTH
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        if at + length > len(data):
            raise ValueError("an element ends after its container")
        yield tag, data[at : at + length]
        at += length


def _seconds(tag: int, content: bytes) -> float:
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.datetime.strptime(content.decode("ascii"), form).replace(tzinfo=datetime.UTC).timestamp()
