"""A mail says what happened, and nothing in a name can make it say something else."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify.events import (
    FACTOR_CHANGES,
    FactorAsked,
    InvitationAsked,
    PasswordAsked,
    ProofAsked,
    ResetAsked,
    SpaceInvitationAsked,
    parse,
)
from services.notify.letters import (
    compose,
    compose_factor_change,
    compose_invitation,
    compose_password_change,
    compose_proof,
    compose_reset,
    compose_space_invitation,
    one_line,
)
from services.notify.records import Mail, RosterMember
from syncline.model.identifiers import SpaceId, UserId
from tests.services.notify.fakes import Person, commit, event

ANN, BOB, EVE = Person("ann@example.com"), Person("bob@example.com"), Person("eve@example.com")
SPACE = SpaceId("a" * 26)


def letter(*commits, space_name="Team", truncated=False) -> Mail:
    return compose(
        to=RosterMember(BOB.user, BOB.email),
        space=SPACE,
        space_name=space_name,
        commits=parse(event(SPACE, *commits)).commits,
        members=[RosterMember(person.user, person.email) for person in (ANN, BOB)],
        truncated=truncated,
        url="https://sync.example.com/?a=1&b=2",
    )


def test_who_changed_how_many_and_which():
    mail = letter(commit(1, ANN, "a.txt", "b.txt"), commit(2, ANN, "c.txt", deleted=3, moved=1))
    assert mail.to == "bob@example.com"
    assert mail.subject == "ann@example.com changed 6 items in Team"
    assert "ann@example.com changed 6 items in Team: 2 created, 1 moved, 3 deleted" in mail.text
    for part in ("  a.txt", "  c.txt", "and 3 more", "https://sync.example.com/?a=1&b=2", f"notify {SPACE} off"):
        assert part in mail.text
    assert '<a href="https://sync.example.com/?a=1&amp;b=2">' in mail.html


def test_several_authors_and_one_who_has_left():
    mail = letter(commit(1, ANN, "a.txt"), commit(2, EVE, "b.txt"))
    assert mail.subject == "2 people changed 2 items in Team"
    assert "ann@example.com changed 1 item in Team: 1 created" in mail.text
    assert "A former member changed 1 item in Team: 1 created" in mail.text
    assert EVE.email not in mail.text + mail.html


def test_at_most_ten_names():
    names = [f"{number}.txt" for number in range(12)]
    mail = letter(commit(1, ANN, *names[:6]), commit(2, ANN, *names[6:]))
    assert "9.txt" in mail.text
    assert "10.txt" not in mail.text
    assert "and 2 more" in mail.text


def test_what_was_cut_is_told():
    assert "further changes" in letter(commit(1, ANN, "a"), truncated=True).text
    assert "further changes" not in letter(commit(1, ANN, "a")).text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\r\nBcc: everybody@example.com", "a Bcc: everybody@example.com"),
        ("line\u2028separator\u0085next", "line separator next"),
        ("photo\u202egpj.exe", "photo gpj.exe"),
        ("\0\t \ud800x", "x"),
        ("in\u200bvisible\ufeff \u2066tags\U000e0041", "in visible tags"),
        ("👩‍👩‍👧 familie", "👩‍👩‍👧 familie"),
    ],
)
def test_a_name_is_one_line_that_reads_one_way(name, shown):
    assert one_line(name) == shown


class _Texts(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


hostile = st.text(min_size=1) | st.sampled_from(
    ["<script>alert(1)</script>", "&amp;", '"><img src=x onerror=alert(1)>', "a\r\nSubject: b", "</ul>", "<!--"]
)


@given(name=hostile, space_name=hostile)
def test_names_stay_text(name, space_name):
    mail = letter(commit(1, ANN, name), space_name=space_name)
    assert len(mail.subject.splitlines()) == 1
    assert len(mail.subject) < 200
    assert mail.text.count("\n") == letter(commit(1, ANN, "x")).text.count("\n")
    reader = _Texts()
    reader.feed(mail.html)
    assert reader.tags == {"html", "body", "p", "b", "ul", "li", "a", "code"}
    if one_line(name):
        assert one_line(name) in reader.texts
    mail.html.encode()
    mail.text.encode()


def proof_letter(token: str | None) -> Mail:
    asked = ProofAsked("i" * 26, ANN.user, ANN.email, token, 1_800_000_000_000)
    return compose_proof(asked, url="https://sync.example.com")


def test_the_mail_with_a_proof_has_the_link_and_the_code_and_says_until_when():
    mail = proof_letter("t-0_k")
    assert (mail.to, mail.subject) == (ANN.email, "Prove your address for Syncline")
    for part in (
        "  https://sync.example.com/prove#t-0_k\n",
        "syncline account prove t-0_k",
        "until 2027-01-15 08:00 UTC",
    ):
        assert part in mail.text
    assert '<a href="https://sync.example.com/prove#t-0_k">' in mail.html
    assert "do nothing" in mail.text


def test_whoever_has_an_account_is_told_so_and_gets_nothing_that_proves():
    mail = proof_letter(None)
    assert mail.subject == "You have a Syncline account already"
    assert "#" not in mail.text
    assert "  https://sync.example.com\n" in mail.text


def test_the_mail_with_an_invitation_has_the_link_and_the_command():
    asked = InvitationAsked("i" * 26, ANN.email, "t-0_k", 1_800_000_000_000)
    mail = compose_invitation(asked, url="https://sync.example.com")
    assert (mail.to, mail.subject) == (ANN.email, "You are invited to Syncline")
    assert "  https://sync.example.com/join#t-0_k\n" in mail.text
    assert f"--email {ANN.email} --invitation t-0_k" in mail.text
    assert "until 2027-01-15 08:00 UTC" in mail.text


def space_invitation(space_name: str = "Harbour", by: str = BOB.email) -> Mail:
    asked = SpaceInvitationAsked(
        "i" * 26, UserId("u" * 26), by, space_name, "editor", ANN.email, "t-0_k", 1_800_000_000_000
    )
    return compose_space_invitation(asked, url="https://sync.example.com")


def test_the_mail_with_an_invitation_to_a_space_says_who_invites_to_what():
    mail = space_invitation()
    assert (mail.to, mail.subject) == (ANN.email, f"{BOB.email} invites you to Harbour")
    assert f"{BOB.email} invites you to the space “Harbour” on Syncline at https://sync.example.com, as an editor." in (
        mail.text
    )
    assert "  https://sync.example.com/join#t-0_k\n" in mail.text
    assert f"--email {ANN.email} --invitation t-0_k" in mail.text
    assert "until 2027-01-15 08:00 UTC" in mail.text
    assert '<a href="https://sync.example.com/join#t-0_k">' in mail.html


@pytest.mark.parametrize(
    "name",
    [
        "https://evil.example/login",
        "www.evil.example",
        "evil.example",
        "mailto:eve@evil.example",
        "Reports (see evil.example/x)",
        "例え.テスト",
        "a” on Syncline at http://evil.example “b",
    ],
)
def test_the_name_of_a_space_makes_no_link_and_does_not_leave_its_quotation_marks(name):
    mail = space_invitation(name)
    said = mail.text.partition("“")[2].partition("”")[0]
    assert mail.text.count("“") == mail.text.count("”") == 1
    for text in (said, mail.subject.removeprefix(f"{BOB.email} ")):
        assert "://" not in text
        assert "@" not in text.replace(" @ ", "")
        assert re.search(r"\w[.][^\W\d_]", text) is None
    assert said
    links = [line for line in mail.html.splitlines() if "<a " in line]
    assert links == ['<p><a href="https://sync.example.com/join#t-0_k">https://sync.example.com/join#t-0_k</a></p>']


@given(st.text(max_size=100))
def test_no_name_of_a_space_steers_the_mail(name):
    mail = space_invitation(name)
    assert "\n" not in mail.subject
    assert mail.text.count("“") == 1
    assert one_line(mail.subject) == mail.subject


def test_the_mail_with_a_reset_has_the_link_and_the_command_and_says_what_it_does():
    asked = ResetAsked("i" * 26, ANN.email, "t-0_k", 1_800_000_000_000)
    mail = compose_reset(asked, url="https://sync.example.com")
    assert (mail.to, mail.subject) == (ANN.email, "Choose a new password for Syncline")
    assert "  https://sync.example.com/reset#t-0_k\n" in mail.text
    assert "syncline reset --endpoint https://sync.example.com --code t-0_k" in mail.text
    assert "until 2027-01-15 08:00 UTC" in mail.text
    assert "It signs all your devices out" in mail.text
    assert "If it was not you, do nothing" in mail.text


def test_the_mail_about_a_changed_password_says_when_and_how_and_how_to_react():
    asked = PasswordAsked("i" * 26, ANN.user, ANN.email, False, 1_800_000_000_000, 1_900_000_000_000)
    mail = compose_password_change(asked, url="https://sync.example.com")
    assert (mail.to, mail.subject) == (ANN.email, "Your Syncline password was changed")
    assert "changed at 2027-01-15 08:00 UTC, on a device that was signed in" in mail.text
    assert "All other devices were signed out" in mail.text
    assert "  https://sync.example.com/reset\n" in mail.text
    assert f"syncline reset {ANN.email} --endpoint https://sync.example.com" in mail.text
    by_reset = compose_password_change(replace(asked, by_reset=True), url="https://sync.example.com")
    assert "by a link that was mailed to this address" in by_reset.text
    assert "All devices were signed out, and all keys of programs were ended" in by_reset.text


@pytest.mark.parametrize("change", sorted(FACTOR_CHANGES))
def test_a_change_of_the_second_factor_says_what_to_do(change: str) -> None:
    asked = FactorAsked("i" * 26, ANN.user, ANN.email, change, 1_800_000_000_000, 1_900_000_000_000)
    mail = compose_factor_change(asked, url="https://sync.example.com")
    assert mail.to == ANN.email
    assert "at 2027-01-15 08:00 UTC" in mail.text
    assert "https://sync.example.com/reset" in mail.text
    assert "administrator" in mail.text or change == "recovery code used"
