"""Trusted networks: they contain only reverse proxies, which report the addresses of their clients."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network


def trusted_network(text: str) -> IPv4Network | IPv6Network:
    """Return the network of a CIDR range, or of a single address. Raise ValueError for any other text, and for a
    network of /0.
    """
    network = ip_network(text.strip())
    if not network.prefixlen:
        raise ValueError(f"{network} would trust every client; name the addresses of your proxies")
    return network
