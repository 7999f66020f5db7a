"""Each request takes shared things on somebody's account."""

from ipaddress import ip_network
from types import SimpleNamespace

from starlette.requests import Request

from gateway.identity.address import OwnAddress
from gateway.identity.shares import share_of
from runtime.claims import read_claims
from syncline.model.identifiers import new_text_id
from tests.support.tokens import unproven_token


def request(peer, forwarded=""):
    own = OwnAddress(public_url="", trusted_networks=[ip_network("10.0.0.0/8")])
    app = SimpleNamespace(state=SimpleNamespace(own=own))
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return Request({"type": "http", "headers": headers, "client": (peer, 1), "app": app})


LINK, ANN, BEN = (new_text_id() for _ in range(3))


def token(number, sub):
    return unproven_token(sub=sub, jti=number)


def link_token(number):
    return unproven_token(sub=LINK, dev=None, spc=new_text_id(), nod=bytes(16).hex(), jti=number)


def test_all_visitors_of_a_link_are_one_caller_and_all_tokens_of_a_person():
    visitors = {share_of(request("192.0.2.1"), link_token(number)) for number in range(5)}
    assert {share.caller for share in visitors} == {read_claims(link_token(0)).subject} == {LINK}
    assert len(visitors) == 1
    people = {share_of(request("192.0.2.1"), token(number, sub)) for number in range(2) for sub in (ANN, BEN)}
    assert len(people) == 2


def test_nobody_chooses_a_network_by_a_header():
    ann = token(0, ANN)
    assert share_of(request("192.0.2.1", "198.51.100.7"), ann).network == "192.0.2.1"
    assert share_of(request("10.0.0.7", "203.0.113.9, 198.51.100.7"), ann).network == "198.51.100.7"
    assert share_of(request("2001:db8::1"), ann).network == share_of(request("2001:db8::2:3"), ann).network
