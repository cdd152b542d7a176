"""Test that the validity of a certificate is read as OpenSSL reads it."""

import base64
import datetime
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamasr.service.validity import Validity, read_validity
from tests.service.conftest import make_certificate

DAY_S = 86_400


@pytest.mark.parametrize("days", [1, 90, 20_000])
def test_times_are_those_of_openssl(tmp_path: Path, days: int) -> None:
    """Times from 2050 on have another form."""
    file = make_certificate(tmp_path, days)
    shown = subprocess.run(
        ["openssl", "x509", "-in", file, "-noout", "-startdate", "-enddate"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    begin, end = (
        datetime.datetime.strptime(line.split("=")[1], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=datetime.UTC)
        for line in shown.splitlines()
    )
    assert read_validity(file.read_text()) == (begin.timestamp(), end.timestamp())


def test_the_certificate_itself_counts_not_its_chain(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    own, issuer = make_certificate(first, 10).read_text(), make_certificate(second, 20).read_text()
    assert read_validity(own + issuer) == read_validity(own)


@pytest.mark.parametrize("text", ["", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"])
def test_without_a_certificate_there_is_no_validity(text: str) -> None:
    assert read_validity(text) is None


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file_nothing_is_raised(data: bytes) -> None:
    body = base64.b64encode(data).decode()
    assert read_validity(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n") is None


@pytest.mark.parametrize(("days", "notice_days"), [(365, 14), (90, 14), (6, 1)])
def test_a_renewal_is_overdue_when_programs_should_have_renewed(days: int, notice_days: float) -> None:
    assert Validity(0, days * DAY_S).renew_by_s == (days - notice_days) * DAY_S
