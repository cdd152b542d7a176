"""Test how addresses are written, IPv6 included."""

import pytest

from streamasr.service.addresses import from_here, plain, with_port


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("localhost", "localhost"),
    ],
)
def test_an_ipv4_client_of_an_ipv6_socket_has_its_own_address(host: str, shown: str) -> None:
    assert plain(host) == shown


def test_an_ipv6_address_is_told_from_its_port() -> None:
    assert with_port("2001:db8::1", 8765) == "[2001:db8::1]:8765"
    assert with_port("192.0.2.1", 8765) == "192.0.2.1:8765"


def test_a_socket_for_all_addresses_is_reached_by_loopback() -> None:
    assert [from_here(host) for host in ("0.0.0.0", "::", "192.0.2.1")] == ["127.0.0.1", "::1", "192.0.2.1"]
