"""The text of a mail: a pure function, and safe whatever characters names contain."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Final

from services.notify.events import (
    CommitSummary,
    FactorAsked,
    InvitationAsked,
    PasswordAsked,
    ProofAsked,
    ResetAsked,
    SpaceInvitationAsked,
)
from services.notify.records import SECOND_MS, Mail, RosterMember
from syncline.model.identifiers import SpaceId, UserId
from syncline.model.printable import spaced

_MAX_NAMES: Final = 10
_MAX_SUBJECT_NAME_CHARACTERS: Final = 60
_FORMER_MEMBER: Final = "A former member"
_DEEDS: Final = ("created", "updated", "moved", "deleted", "restored")
_A_ROLE: Final = {"viewer": "a viewer", "editor": "an editor", "owner": "an owner"}
_FACTOR_CHANGES: Final = {
    "added": (
        "A second factor was added to your Syncline account",
        "A second factor was added to",
        "If it was not you, somebody has your password, and only an administrator can remove what they added: ask one, "
        "and choose another password at once:",
    ),
    "removed": (
        "The second factor of your Syncline account was removed",
        "The second factor was removed from",
        "An administrator does this for who has lost it. If neither you nor an administrator whom you asked has done "
        "it, choose another password at once:",
    ),
    "recovery code used": (
        "A recovery code of your Syncline account was used",
        "A recovery code signed in to",
        "If it was not you, somebody has your password and your recovery codes: choose another password at once, sign "
        "in, and add your app anew:",
    ),
}
"""The subject of the mail about each change of a second factor (`FACTOR_CHANGES`), its beginning, and what to do."""
_LINK: Final = re.compile(r"@|:(?=\S)|(?<=\w)[.](?=[^\W\d_])")
"""The parts of a text by which programs for mail recognise an address, and make a link of it."""


@dataclass(slots=True)
class _AuthorChanges:
    """The changes of one author in a mail."""

    author: str
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_DEEDS, 0))
    names: dict[str, None] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        return sum(self.counts.values())

    @property
    def deeds(self) -> str:
        return ", ".join(f"{count} {deed}" for deed, count in self.counts.items() if count)

    @property
    def shown(self) -> list[str]:
        return list(self.names)[:_MAX_NAMES]

    @property
    def unnamed(self) -> int:
        return self.changes - len(self.shown)


def compose(
    *,
    to: RosterMember,
    space: SpaceId,
    space_name: str,
    commits: Sequence[CommitSummary],
    members: Iterable[RosterMember],
    truncated: bool,
    url: str,
) -> Mail:
    """Return the mail that tells the member `to` about `commits`, at least one, which others have made in a space.

    - `members` has the members whom the mail names by their addresses. The mail calls any other author a former member.
    - `truncated` is True if there are further commits that `commits` lacks.
    - `url` is the address of Syncline for people, to which the mail links.
    """
    authors = _by_author(commits, {member.user: member.email for member in members})
    changes = sum(author.changes for author in authors)
    who = authors[0].author if len(authors) == 1 else f"{len(authors)} people"
    where = one_line(space_name)
    by, where = (one_line(name, _MAX_SUBJECT_NAME_CHARACTERS) for name in (who, space_name))
    subject = f"{by} changed {_items(changes)} in {where}"
    stop = f"syncline notify {space} off"
    return Mail(
        to=to.email,
        subject=subject,
        text=_text(where, authors, truncated=truncated, url=url, stop=stop),
        html=_html(where, authors, truncated=truncated, url=url, stop=stop),
    )


def compose_proof(asked: ProofAsked, *, url: str) -> Mail:
    """Return the mail with the proof of an address, or the mail that says that the address has an account already."""
    if asked.token is None:
        return _letter(
            asked.to,
            "You have a Syncline account already",
            [
                f"Somebody wants to make an account at {url} with this address, which has one already.",
                "If it was you, sign in to your account with its own password:",
            ],
            link=url,
            last=["If it was not you, there is nothing to do: nobody gets into your account by this."],
        )
    return _letter(
        asked.to,
        "Prove your address for Syncline",
        [
            f"Somebody has made an account at {url} with this address.",
            "If it was you, stay signed in to that account, and prove that the address is yours by opening",
        ],
        link=f"{url}/prove#{asked.token}",
        last=[
            f"or by the command: syncline account prove {asked.token}",
            f"This works once, until {_until(asked.expires_at_ms)}, and only in the account for which it was sent.",
            "If it was not you, do nothing: without the proof, nobody can share anything with that account.",
        ],
    )


def compose_invitation(asked: InvitationAsked, *, url: str) -> Mail:
    """Return the mail with an invitation to make an account."""
    return _letter(
        asked.to,
        "You are invited to Syncline",
        [f"You are invited to make an account at {url} with this address. Choose a password here:"],
        link=f"{url}/join#{asked.token}",
        last=[
            f"or by the command: syncline signup --endpoint {url} --email {asked.to} --invitation {asked.token}",
            f"This works once, until {_until(asked.expires_at_ms)}. Give the link to nobody: it makes the account.",
        ],
    )


def compose_space_invitation(asked: SpaceInvitationAsked, *, url: str) -> Mail:
    """Return the mail with an invitation to a space. The name of the space is the choice of the inviter, and makes no
    link of its own.
    """
    by = one_line(asked.by)
    name = _without_links(one_line(asked.space_name)) or "a space"
    subject = f"{by} invites you to {_shortened(name, _MAX_SUBJECT_NAME_CHARACTERS)}"
    return _letter(
        asked.to,
        subject,
        [
            f"{by} invites you to the space “{name}” on Syncline at {url}, as {_A_ROLE[asked.role]}.",
            "To see it, make an account with this address. Choose a password here:",
        ],
        link=f"{url}/join#{asked.token}",
        last=[
            f"or by the command: syncline signup --endpoint {url} --email {asked.to} --invitation {asked.token}",
            "If you have made an account with this address already, prove the address in it: the space is there then.",
            f"This works once, until {_until(asked.expires_at_ms)}. Give the link to nobody: it makes the account.",
            "If you do not know the sender, or do not want this, do nothing, or decline on the page of the link.",
        ],
    )


def compose_reset(asked: ResetAsked, *, url: str) -> Mail:
    """Return the mail with a reset of the password."""
    return _letter(
        asked.to,
        "Choose a new password for Syncline",
        [
            f"Somebody wants to choose a new password for the account at {url} with this address.",
            "If it was you, choose it here:",
        ],
        link=f"{url}/reset#{asked.token}",
        last=[
            f"or by the command: syncline reset --endpoint {url} --code {asked.token}",
            f"This works once, until {_until(asked.expires_at_ms)}. It signs all your devices out, and ends the keys "
            "of your programs.",
            "If it was not you, do nothing: your password stays as it is. Give the link to nobody.",
        ],
    )


def compose_password_change(asked: PasswordAsked, *, url: str) -> Mail:
    """Return the mail that tells the owner of an account that its password was changed, and how to react."""
    how = "by a link that was mailed to this address" if asked.by_reset else "on a device that was signed in"
    ended = (
        "All devices were signed out, and all keys of programs were ended."
        if asked.by_reset
        else "All other devices were signed out, and all keys of programs were ended that this device had not made."
    )
    return _letter(
        asked.to,
        "Your Syncline password was changed",
        [
            f"The password of your account at {url} was changed at {_until(asked.changed_at_ms)}, {how}.",
            ended,
            "If it was you, there is nothing to do. If it was not you, choose another password at once:",
        ],
        link=f"{url}/reset",
        last=[
            f"or by the command: syncline reset {asked.to} --endpoint {url}",
            "Sign in afterwards, and look at your devices, your keys, the members of your spaces and your public "
            "links: whoever changed the password may have added some.",
        ],
    )


def compose_factor_change(asked: FactorAsked, *, url: str) -> Mail:
    """Return the mail that tells the owner of an account that its second factor was changed, and how to react."""
    subject, told, advice = _FACTOR_CHANGES[asked.change]
    return _letter(
        asked.to,
        subject,
        [
            f"{told} your account at {url} at {_until(asked.changed_at_ms)}.",
            "If it was you, there is nothing to do.",
            advice,
        ],
        link=f"{url}/reset",
        last=[
            f"or by the command: syncline reset {asked.to} --endpoint {url}",
            "A new password signs all devices out.",
        ],
    )


def _until(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / SECOND_MS, tz=UTC):%Y-%m-%d %H:%M} UTC"


def _letter(to: str, subject: str, first: Sequence[str], *, link: str, last: Sequence[str]) -> Mail:
    """Return a mail of sentences before and after one link."""
    html = [
        '<!doctype html><html><body style="font-family: sans-serif">',
        *(f"<p>{escape(sentence)}</p>" for sentence in first),
        f'<p><a href="{escape(link)}">{escape(link)}</a></p>',
        *(f"<p>{escape(sentence)}</p>" for sentence in last),
        "</body></html>",
    ]
    return Mail(to, subject, "\n".join([*first, "", f"  {link}", "", *last, ""]), "\n".join(html))


def one_line(text: str, limit: int | None = None) -> str:
    """Return `text` without line breaks, direction changes and invisible characters, cut to `limit` characters; None
    does not cut it.
    """
    cleaned = " ".join(spaced(text).split())
    return cleaned if limit is None else _shortened(cleaned, limit)


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _without_links(text: str) -> str:
    """Return `text` in a form that stays between quotation marks, and of which no program for mail makes a link:
    without such marks, and with spaces around what would join the parts of an address.
    """
    unquoted = re.sub('[“”„«»"]', "'", text)
    return " ".join(_LINK.sub(lambda found: f" {found[0]} ", unquoted).split())


def _by_author(commits: Sequence[CommitSummary], addresses: Mapping[UserId, str]) -> list[_AuthorChanges]:
    authors: dict[UserId, _AuthorChanges] = {}
    for commit in commits:
        author = authors.setdefault(commit.user, _AuthorChanges(addresses.get(commit.user, _FORMER_MEMBER)))
        for deed in _DEEDS:
            author.counts[deed] += getattr(commit, deed)
        author.names.update(dict.fromkeys(map(one_line, commit.names)))
    return list(authors.values())


def _items(count: int) -> str:
    return "1 item" if count == 1 else f"{count} items"


def _text(where: str, authors: Sequence[_AuthorChanges], *, truncated: bool, url: str, stop: str) -> str:
    lines = []
    for author in authors:
        lines.append(f"{author.author} changed {_items(author.changes)} in {where}: {author.deeds}")
        lines += [f"  {name}" for name in author.shown]
        if author.unnamed > 0:
            lines.append(f"  and {author.unnamed} more")
        lines.append("")
    if truncated:
        lines += ["There are further changes.", ""]
    lines += [
        f"Open Syncline: {url}",
        "",
        f"You get this because you are a member of {where}. To get no more such mail: {stop}",
        "",
    ]
    return "\n".join(lines)


def _html(where: str, authors: Sequence[_AuthorChanges], *, truncated: bool, url: str, stop: str) -> str:
    parts = ['<!doctype html><html><body style="font-family: sans-serif">']
    for author in authors:
        parts.append(
            f"<p><b>{escape(author.author)}</b> changed {_items(author.changes)} in <b>{escape(where)}</b>: "
            f"{escape(author.deeds)}</p><ul>"
        )
        parts += [f"<li>{escape(name)}</li>" for name in author.shown]
        if author.unnamed > 0:
            parts.append(f"<li>and {author.unnamed} more</li>")
        parts.append("</ul>")
    if truncated:
        parts.append("<p>There are further changes.</p>")
    parts.append(
        f'<p><a href="{escape(url)}">Open Syncline</a></p>'
        f'<p style="color: #666; font-size: small">You get this because you are a member of {escape(where)}. '
        f"To get no more such mail: <code>{escape(stop)}</code></p></body></html>"
    )
    return "\n".join(parts)
