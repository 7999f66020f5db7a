"""E-mail addresses: one spelling for each, so that a person has one account."""

from __future__ import annotations

from email_validator import EmailNotValidError, validate_email

from syncline.model.errors import InvalidArgument

MAX_CHARACTERS = 254
"""No mail is delivered to a longer address."""


def normalize_address(text: str) -> str:
    """The address in lower case with its domain in Unicode. Raise InvalidArgument if it is malformed."""
    if len(text) > MAX_CHARACTERS:  # the library looks at every character more than once, in order to say what is wrong
        raise InvalidArgument(f"an e-mail address has at most {MAX_CHARACTERS} characters", field="email")
    try:
        parts = validate_email(
            text,
            check_deliverability=False,  # no look-up in DNS while somebody waits; mail that cannot be delivered bounces
            test_environment=True,  # example domains are accepted anyway, and so is .test
        )
    except EmailNotValidError:
        # The library's text would repeat what was typed, which may be a password in the wrong field.
        raise InvalidArgument("that is not a valid e-mail address") from None
    return parts.normalized.lower()
