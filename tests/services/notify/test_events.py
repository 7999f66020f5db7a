"""Notify reads events from the topic, and refuses others."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.auth.records import FactorChange
from services.notify.events import (
    FACTOR_CHANGES,
    FactorAsked,
    InvitationAsked,
    MalformedEvent,
    PasswordAsked,
    ProofAsked,
    ResetAsked,
    SpaceInvitationAsked,
    parse,
    parse_mail,
)
from tests.services.notify.fakes import Person, commit, event, proof

ANN = Person("ann@example.com")
SPACE = "a" * 26


def test_an_event_is_read():
    read = parse(event(SPACE, commit(5, ANN, "a", "b"), commit(7, ANN, "c", deleted=3, moved=1)))
    assert (read.space, read.to_seq, read.truncated) == (SPACE, 7, False)
    assert [(one.seq, one.user, one.changes, one.names) for one in read.commits] == [
        (5, ANN.user, 2, ("a", "b")),
        (7, ANN.user, 4, ("c",)),
    ]


def test_fields_of_the_future_are_ignored():
    assert parse(event(SPACE, commit(1, ANN, "a"), truncated=True, colour="red")).truncated


@pytest.mark.parametrize(
    "body",
    [
        "",
        "hello",
        "[]",
        "null",
        "3",
        "[" * 100_000,
        "{}",
        event(SPACE, commit(1, ANN, "a"), v=2),
        event(SPACE, commit(1, ANN, "a"), space="../../etc"),
        event(SPACE, commit(1, ANN, "a"), space=None),
        event(SPACE, commit(1, ANN, "a"), to_seq=-1),
        event(SPACE, commit(1, ANN, "a"), to_seq="1"),
        event(SPACE, commit(1, ANN, "a"), commits=None),
        event(SPACE, commit(1, ANN, "a"), commits=[None]),
        event(SPACE, commit(1, ANN, "a") | {"seq": True}),
        event(SPACE, commit(1, ANN, "a") | {"names": [1]}),
        event(SPACE, commit(1, ANN, "a") | {"user": "ann"}),
    ],
)
def test_what_is_no_event_is_refused(body):
    with pytest.raises(MalformedEvent):
        parse(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(field=st.sampled_from(["v", "space", "from_seq", "to_seq", "commits", "truncated"]), value=json_values)
def test_whatever_a_field_holds_it_is_read_or_refused(field, value):
    body = json.loads(event(SPACE, commit(1, ANN, "a"))) | {field: value}
    with contextlib.suppress(MalformedEvent):
        parse(json.dumps(body))


# ---- requests for mail


def test_a_request_for_the_mail_with_a_proof_is_read():
    asked = parse_mail(proof(ANN, token="t" * 43, colour="red"))
    assert isinstance(asked, ProofAsked)
    assert (asked.user, asked.sender, asked.to, asked.token) == (ANN.user, ANN.user, ANN.email, "t" * 43)
    assert "t" * 43 not in repr(asked)


def test_the_mail_queue_has_announcements_as_before():
    body = event(SPACE, commit(5, ANN, "a"))
    assert parse_mail(body) == parse(body)


@pytest.mark.parametrize(
    "field",
    [
        {"v": 2},
        {"id": "../../etc"},
        {"user": None},
        {"to": "ann"},
        {"to": "ann@example.com\nBcc: eve@example.com"},
        {"to": None},
        {"token": "<script>"},
        {"token": 7},
        {"token": "SECRET" * 100},
        {"expires_at_ms": "soon"},
        {"kind": "other"},
        {"kind": ["proof"]},
    ],
    ids=json.dumps,
)
def test_what_is_no_request_is_refused_without_its_token(field):
    with pytest.raises(MalformedEvent) as caught:
        parse_mail(json.dumps(json.loads(proof(ANN, token="SECRET")) | field))
    assert "SECRET" not in str(caught.value)


def test_a_request_for_the_mail_with_an_invitation_is_read():
    asked = parse_mail(proof(ANN, token="t" * 43, kind="invitation"))
    assert isinstance(asked, InvitationAsked)
    assert (asked.sender, asked.to, asked.token) == (asked.ident, ANN.email, "t" * 43)
    assert "t" * 43 not in repr(asked)
    with pytest.raises(MalformedEvent):
        parse_mail(proof(ANN, token=None, kind="invitation"))


def space_invitation(**more):
    told = {"kind": "space invitation", "by": "bob@example.com", "space_name": "Harbour", "role": "editor"}
    return proof(ANN, token="t" * 43, **(told | more))


def test_a_request_for_the_mail_with_an_invitation_to_a_space_is_read():
    asked = parse_mail(space_invitation())
    assert isinstance(asked, SpaceInvitationAsked)
    assert (asked.sender, asked.to, asked.by) == (ANN.user, ANN.email, "bob@example.com")
    assert (asked.space_name, asked.role) == ("Harbour", "editor")
    assert "t" * 43 not in repr(asked)


@pytest.mark.parametrize(
    "wrong",
    [{"role": "king"}, {"role": ["editor"]}, {"role": None}, {"by": "bob"}, {"by": None}, {"space_name": 5}, {"v": 2}],
    ids=str,
)
def test_a_request_for_such_a_mail_that_is_wrong_is_malformed(wrong):
    with pytest.raises(MalformedEvent) as caught:
        parse_mail(space_invitation(**wrong))
    assert "t" * 43 not in str(caught.value)


def test_a_request_for_the_mail_with_a_reset_is_read():
    asked = parse_mail(proof(ANN, token="t" * 43, kind="reset"))
    assert isinstance(asked, ResetAsked)
    assert (asked.sender, asked.to, asked.token) == (asked.ident, ANN.email, "t" * 43)
    assert "t" * 43 not in repr(asked)
    nobody = parse_mail(proof(ANN, token=None, kind="reset"))
    assert isinstance(nobody, ResetAsked)
    assert nobody.token is None
    with pytest.raises(MalformedEvent):
        parse_mail(proof(ANN, token="t t", kind="reset"))


def test_a_request_for_the_mail_about_a_changed_password_is_read():
    asked = parse_mail(proof(ANN, kind="password", by_reset=True, changed_at_ms=7))
    assert isinstance(asked, PasswordAsked)
    assert (asked.sender, asked.to, asked.by_reset, asked.changed_at_ms) == (ANN.user, ANN.email, True, 7)
    known: dict[str, Any] = {"kind": "password", "by_reset": True, "changed_at_ms": 7}
    for wrong in ({"by_reset": 1}, {"changed_at_ms": -1}, {"user": "ann"}, {"to": "ann"}):
        with pytest.raises(MalformedEvent):
            parse_mail(proof(ANN, **known | wrong))


def test_a_request_for_the_mail_about_a_second_factor_is_read():
    asked = parse_mail(proof(ANN, kind="factor", change="added", changed_at_ms=7))
    assert isinstance(asked, FactorAsked)
    assert (asked.sender, asked.to, asked.change, asked.changed_at_ms) == (ANN.user, ANN.email, "added", 7)
    known: dict[str, Any] = {"kind": "factor", "change": "removed", "changed_at_ms": 7}
    for wrong in ({"change": "other"}, {"change": 1}, {"changed_at_ms": -1}, {"user": "ann"}, {"to": "ann"}):
        with pytest.raises(MalformedEvent):
            parse_mail(proof(ANN, **known | wrong))


def test_auth_and_notify_know_the_same_changes_of_a_second_factor():
    assert {change.value for change in FactorChange} == FACTOR_CHANGES
