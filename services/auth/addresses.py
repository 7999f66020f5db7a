"""E-mail addresses: each address has one normalised spelling, so that two spellings of it do not make two accounts."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email

from syncline.model.errors import InvalidArgument

MAX_EMAIL_CHARACTERS = 254
"""Maximum length of an address that mail can be delivered to, in characters."""


def normalize_domain(text: str) -> str:
    """Return a domain in the form that it has in a normalised address. Raise InvalidArgument if it is malformed."""
    return domain_of(normalize_address(f"postmaster@{text}"))


def domain_of(address: str) -> str:
    """Return the domain of an e-mail address."""
    return address.rpartition("@")[2]


def normalize_address(text: str) -> str:
    """Return the e-mail address `text` in lower case, with its domain in Unicode. Raise InvalidArgument if `text` is no
    e-mail address.
    """
    if len(text) > MAX_EMAIL_CHARACTERS:  # the library scans the text several times to explain an error
        raise InvalidArgument(f"an e-mail address has at most {MAX_EMAIL_CHARACTERS} characters", field="email")
    try:
        parts = validate_email(
            text,
            check_deliverability=False,  # no DNS look-up during a request; undeliverable mail bounces
            test_environment=True,  # example domains are accepted anyway, and so is .test
        )
    except EmailNotValidError:
        # The library's message would repeat the input, which may be a password typed into the wrong field.
        raise InvalidArgument("that is not a valid e-mail address") from None
    return parts.normalized.lower()
