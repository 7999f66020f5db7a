"""One spelling for each address."""

import pytest

from services.auth.addresses import normalize_address
from syncline.model.errors import InvalidArgument


@pytest.mark.parametrize(
    ("given", "normalized"),
    [
        ("ann@example.com", "ann@example.com"),
        ("Ann.Lee+sync@EXAMPLE.com", "ann.lee+sync@example.com"),
        ("ann@office.test", "ann@office.test"),
        ("ann@nas.internal", "ann@nas.internal"),
        ("JÖRG@Bücher.example", "jörg@bücher.example"),
        ("jo\u0308rg@xn--bcher-kva.example", "jörg@bücher.example"),
    ],
)
def test_normal_form(given, normalized):
    assert normalize_address(given) == normalized


@pytest.mark.parametrize(
    "given",
    [
        "",
        "ann",
        "@example.com",
        "ann@",
        "a b@example.com",
        "ann@exa mple.com",
        "a@b\n.com",
        "a@localhost",
        "a@nas.local",
    ],
)
def test_malformed(given):
    with pytest.raises(InvalidArgument):
        normalize_address(given)


def test_what_was_typed_is_not_repeated():
    with pytest.raises(InvalidArgument) as caught:
        normalize_address("my secret password")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["a" * 255 + "@example.com", '"' * 1_000_000 + "@example.com", "a <" * 1_000_000])
def test_an_address_has_a_bound_before_it_is_looked_at(text):
    with pytest.raises(InvalidArgument, match="at most 254 characters"):
        normalize_address(text)
