"""The address that sign-in attempts are counted by."""

import pytest

from services.auth.peers import UNKNOWN, peer_address


@pytest.mark.parametrize(
    ("transport", "address"),
    [
        ("ipv4:192.0.2.1:5000", "192.0.2.1"),
        ("ipv6:[2001:db8:1:2:3:4:5:6]:5000", "2001:db8:1:2::"),
        ("ipv6:%5B2001:db8:1:2:9::1%5D:5000", "2001:db8:1:2::"),
        ("ipv6:%5B::ffff:192.0.2.1%5D:5000", "192.0.2.1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", "fe80::"),
        ("unix:/run/x", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_by_transport(transport, address):
    assert peer_address(transport, ["203.0.113.9"], trusted_proxies=0) == address


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        (["198.51.100.7"], 1, "198.51.100.7"),
        (["6.6.6.6, 198.51.100.7"], 1, "198.51.100.7"),
        (["6.6.6.6", "198.51.100.7, 10.0.0.1"], 2, "198.51.100.7"),
        ([], 1, "192.0.2.1"),
        (["nonsense"], 1, UNKNOWN),
    ],
)
def test_only_what_trusted_proxies_added_counts(forwarded, proxies, address):
    assert peer_address("ipv4:192.0.2.1:5000", forwarded, trusted_proxies=proxies) == address
