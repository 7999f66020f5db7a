"""The address that sign-in attempts are counted by."""

import time
from ipaddress import ip_network
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from runtime.network import UNKNOWN, peer_address
from runtime.network_tokens import NETWORK_KEY, NETWORK_TOKEN_SECONDS, NetworkTokens, NetworkTokenVerifier
from runtime.settings import load
from runtime.tokens import mint_service_token
from services.auth.settings import AuthSettings
from syncline.auth.v1 import auth_pb2
from syncline.model.errors import TokenExpired, TokenInvalid
from tests.services.auth.support import SECRET, bearer, make_settings, refused, serving

CLIENT = "198.51.100.7"


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


NETWORKS = [ip_network("10.40.0.0/16"), ip_network("fd00:40::/32")]
BALANCER, GATEWAY, INNER = "10.40.1.1", "10.40.70.7", "10.40.80.8"


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        # A device, which the public balancer sends straight to auth.
        ([CLIENT], CLIENT),
        ([f"6.6.6.6, {CLIENT}"], CLIENT),
        ([f"{GATEWAY}, {CLIENT}"], CLIENT),
        # A browser: the gateway has told what the public balancer did, and the internal one has seen the gateway.
        ([f"{CLIENT}, {BALANCER}, {GATEWAY}"], CLIENT),
        ([f"{CLIENT}, {BALANCER}", GATEWAY], CLIENT),
        ([f"{CLIENT}, ::ffff:{BALANCER}, {GATEWAY}"], CLIENT),
        ([f"6.6.6.6, {CLIENT}, {BALANCER}, {GATEWAY}"], CLIENT),
        ([f"{INNER}, {CLIENT}, {BALANCER}, {GATEWAY}"], CLIENT),
        (["6.6.6.6", f"{CLIENT}, {BALANCER}, {GATEWAY}"], CLIENT),
        ([f"6.6.6.6, nonsense, {BALANCER}, {GATEWAY}"], UNKNOWN),
        ([f"6.6.6.6, , {BALANCER}, {GATEWAY}"], UNKNOWN),
        # One of ours, on its own behalf: the first that is named.
        ([f"{BALANCER}, {GATEWAY}"], BALANCER),
        ([GATEWAY], GATEWAY),
        # By IPv6, where an address is trusted as a whole and counted by its first half.
        (["6:6::6, 2001:db8:1:2:3::4, fd00:40:1::1, fd00:40:1::2"], "2001:db8:1:2::"),
        (["2001:db8:1:2:3::4, fd00:41::1, fd00:40::1"], "fd00:41::"),
        ([f"2001:db8:1:2:3::4, {BALANCER}, fd00:40::1"], "2001:db8:1:2::"),
    ],
)
def test_who_is_within_a_trusted_network_is_believed_for_whom_it_calls(forwarded, address):
    transport = f"ipv4:{INNER}:5000"
    assert peer_address(transport, forwarded, trusted_proxies=1, trusted_networks=NETWORKS) == address


@pytest.mark.parametrize(
    ("transport", "forwarded", "proxies", "address"),
    [
        (f"ipv4:{GATEWAY}:5000", [f"6.6.6.6, {CLIENT}"], 0, CLIENT),  # the gateway, with no balancer between
        (f"ipv4:{CLIENT}:5000", [f"6.6.6.6, {GATEWAY}"], 0, CLIENT),
        (f"ipv4:{GATEWAY}:5000", [], 0, GATEWAY),
        ("unix:/run/x", ["6.6.6.6"], 0, UNKNOWN),
        (f"ipv4:{GATEWAY}:5000", ["6.6.6.6"], 2, GATEWAY),  # the call did not come by both
    ],
)
def test_the_connection_itself_counts_where_no_proxy_is_named(transport, forwarded, proxies, address):
    counted = peer_address(transport, forwarded, trusted_proxies=proxies, trusted_networks=NETWORKS)
    assert counted == address


@given(
    st.lists(st.text(st.characters(codec="ascii"), max_size=20)), st.lists(st.sampled_from([BALANCER, GATEWAY, INNER]))
)
def test_nothing_that_a_client_sends_chooses_the_address_that_is_counted(sent, ours):
    forwarded = [*sent, ", ".join([CLIENT, *ours])]
    assert peer_address(f"ipv4:{INNER}:5000", forwarded, trusted_proxies=1, trusted_networks=NETWORKS) == CLIENT


# ---- the setting


@pytest.mark.parametrize(
    ("given_as", "networks"),
    [
        (None, ()),
        ("", ()),
        ("10.40.0.0/16", (ip_network("10.40.0.0/16"),)),
        (" 10.40.0.0/16 , fd00:40::/32", (ip_network("10.40.0.0/16"), ip_network("fd00:40::/32"))),
        ("192.0.2.1", (ip_network("192.0.2.1/32"),)),
    ],
)
def test_trusted_networks_are_read(tmp_path, monkeypatch, given_as, networks):
    if given_as is None:
        monkeypatch.delenv("SYNCLINE_TRUSTED_NETWORKS", raising=False)
    else:
        monkeypatch.setenv("SYNCLINE_TRUSTED_NETWORKS", given_as)
    assert make_settings(tmp_path).trusted_networks == networks


@pytest.mark.parametrize(
    ("given_as", "complaint"),
    [
        ("10.40.0.0/33", "does not appear to be an IPv4 or IPv6 network"),
        ("10.40.1.0/16", "has host bits set"),
        ("10.40.0.0/16,", "'' does not appear to be an IPv4 or IPv6 network"),
        ("files.example.com", "does not appear to be an IPv4 or IPv6 network"),
        ("0.0.0.0/0", "0.0.0.0/0 would trust every client"),
        ("10.0.0.0/8,::/0", "::/0 would trust every client"),
    ],
)
def test_networks_that_are_none_are_refused(tmp_path, monkeypatch, capsys, given_as, complaint):
    monkeypatch.setenv("SYNCLINE_TRUSTED_NETWORKS", given_as)
    with pytest.raises(SystemExit):
        load(cast("type[AuthSettings]", lambda: make_settings(tmp_path)))
    told = capsys.readouterr().err
    assert "SYNCLINE_TRUSTED_NETWORKS: " in told
    assert complaint in told


# ---- over gRPC


async def test_attempts_through_the_gateway_are_counted_for_each_browser(tmp_path):
    limits = {"sign_in_limit_per_peer": 2, "trusted_proxies": 1, "trusted_networks": "10.40.0.0/16"}
    async with serving(tmp_path, **limits) as auth:
        await auth.sign_up("ann@example.com")

        def through_the_gateway(last, *, spoofed=""):
            return (("x-forwarded-for", f"{spoofed}198.51.100.{last}, {BALANCER}, {GATEWAY}"),)

        for number in range(2):
            with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
                spoofed = through_the_gateway(1, spoofed=f"203.0.113.{number}, ")
                await auth.sign_in("ann@example.com", password="a wrong one", metadata=spoofed)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await auth.sign_in("ann@example.com", metadata=through_the_gateway(1, spoofed="203.0.113.9, "))
        await auth.sign_in("ann@example.com", metadata=through_the_gateway(2))


# ---- the gateway proves for which network it calls

GATEWAY_SECRET = "the secret of the gateway alone, and no other"


def proof(network, *, secret=GATEWAY_SECRET, **clock):
    return ((NETWORK_KEY, NetworkTokens(secret, **clock).mint(network)),)


def hours_ago():
    return time.time() - 3600


def forgeries(number):
    """Return metadata that somebody beside the gateway can send, who knows no secret and is at no trusted place."""
    network = f"198.51.100.{number}"
    unsigned = f"{int(time.time()) + 60} {network} {'0' * 64}"
    return [
        (("x-forwarded-for", network),),
        proof(network, secret="another secret of as many characters as it takes"),
        proof(network, now=hours_ago),
        ((NETWORK_KEY, unsigned),),
        ((NETWORK_KEY, network),),
        ((NETWORK_KEY, f"soon {network} "),),
        ((NETWORK_KEY, "x" * 4_000),),
        ((NETWORK_KEY, mint_service_token("metadata", GATEWAY_SECRET)),),
        ((NETWORK_KEY, ""), ("x-forwarded-for", network)),
    ]


async def test_only_the_gateway_tells_for_which_network_it_calls(tmp_path):
    limits = {"sign_in_limit_per_peer": 2, "gateway_secret": SecretStr(GATEWAY_SECRET)}
    async with serving(tmp_path, **limits) as auth:
        await auth.sign_up("ann@example.com")
        for number in (1, 2, 1, 2):
            with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
                await auth.sign_in("ann@example.com", password="a wrong one", metadata=proof(f"198.51.100.{number}"))
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await auth.sign_in("ann@example.com", metadata=proof("198.51.100.1"))
        await auth.sign_in("ann@example.com", metadata=proof("198.51.100.3"))


@pytest.mark.parametrize("which", range(len(forgeries(0))))
async def test_nobody_else_chooses_the_network_that_is_counted(tmp_path, which):
    limits = {"sign_in_limit_per_peer": 2, "gateway_secret": SecretStr(GATEWAY_SECRET)}
    async with serving(tmp_path, **limits) as auth:
        await auth.sign_up("ann@example.com")
        for number in (1, 2):
            with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
                await auth.sign_in("ann@example.com", password="a wrong one", metadata=forgeries(number)[which])
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            await auth.sign_in("ann@example.com", metadata=forgeries(3)[which])


async def test_without_the_secret_a_proof_is_nothing_and_trusted_networks_count_as_before(tmp_path):
    """A release that begins to prove meets services of the one before, and those that do not have the secret yet."""
    limits = {"sign_in_limit_per_peer": 2, "trusted_networks": "127.0.0.1/32"}
    async with serving(tmp_path, **limits) as auth:
        await auth.sign_up("ann@example.com")
        for number in (1, 1, 2):
            both = (*proof("203.0.113.5"), ("x-forwarded-for", f"198.51.100.{number}"))
            with refused("UNAUTHENTICATED", "WRONG_PASSWORD"):
                await auth.sign_in("ann@example.com", password="a wrong one", metadata=both)
        with refused("RESOURCE_EXHAUSTED", "TOO_MANY_ATTEMPTS"):
            told = (*proof("203.0.113.6"), ("x-forwarded-for", "198.51.100.1"))
            await auth.sign_in("ann@example.com", metadata=told)


async def test_the_secret_of_the_gateway_makes_nobody_a_service(tmp_path):
    async with serving(tmp_path, gateway_secret=SecretStr(GATEWAY_SECRET)) as auth:
        person = await auth.sign_up("ann@example.com")
        request = auth_pb2.BatchCheckAccessRequest(user_id=person.account.user_id)
        for token, reason in (
            (mint_service_token("metadata", GATEWAY_SECRET), "TOKEN_INVALID"),
            (NetworkTokens(GATEWAY_SECRET).mint("metadata"), "TOKEN_MALFORMED"),
        ):
            with refused("UNAUTHENTICATED", reason):
                await auth.stub.BatchCheckAccess(request, metadata=bearer(token))
        await auth.stub.BatchCheckAccess(
            request, metadata=bearer(mint_service_token("notify", SECRET, now=auth.clock() / 1000))
        )


def test_a_proof_is_minted_once_a_while_and_lives_for_minutes():
    now = [1_000.0]
    tokens = NetworkTokens(GATEWAY_SECRET, now=lambda: now[0])
    verifier = NetworkTokenVerifier(GATEWAY_SECRET, now=lambda: now[0])
    first = tokens.mint(CLIENT)
    assert verifier.network(first) == CLIENT
    now[0] += NETWORK_TOKEN_SECONDS - 61
    assert tokens.mint(CLIENT) == first
    assert tokens.mint("198.51.100.8") != first
    now[0] += 2
    second = tokens.mint(CLIENT)
    assert second != first
    now[0] += 60
    assert verifier.network(second) == CLIENT
    with pytest.raises(TokenExpired):
        verifier.network(first)
    with pytest.raises(TokenInvalid):
        NetworkTokenVerifier(SECRET, now=lambda: now[0]).network(second)
