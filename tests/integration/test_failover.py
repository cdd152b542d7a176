"""Test that clients lose no words when one of three daemons behind HAProxy drains and another one is killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from failover import run

AUDIO = sorted((Path(__file__).parents[1] / "data" / "librispeech").glob("*.flac"))
STREAMS = 6


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_words_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 40 s. How late the words come depends on the machine: benchmarks/results/failover.md has figures."""
    for program in ("haproxy", "openssl"):
        if shutil.which(program, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin") is None:
            pytest.skip(f"{program} is not installed (Debian: apt install {program})")
    monkeypatch.setenv("SSL_CERT_FILE", "")
    reports = run(AUDIO, STREAMS)
    assert sum(report.sessions for report in reports) >= STREAMS + 2, "two daemons had clients"
    for report in reports:
        assert report.words >= 50
        assert report.lost == 0
        assert report.changed <= 3
