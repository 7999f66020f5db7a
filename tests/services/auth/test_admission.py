"""The policy and the domain of the address alone decide who may make an account."""

import pytest
from pydantic import ValidationError

from services.auth.addresses import normalize_address
from services.auth.admission import Admission
from services.auth.settings import AuthSettings
from syncline.auth.v1 import auth_pb2
from syncline.model.accounts import SignUpPolicy
from syncline.model.errors import SignUpClosed
from tests.services.auth.support import PASSWORD, make_settings, refused, serving


def settings(tmp_path, domains: str):
    """Settings with the policy `domains`, whose list comes as it does from the environment."""
    return make_settings(tmp_path, sign_up_policy="domains", sign_up_domains=domains)


@pytest.mark.parametrize("email", ["ann@example.com", "ann@bücher.example", "ann@xn--bcher-kva.example"])
def test_an_address_of_a_listed_domain_is_admitted_however_it_is_written(tmp_path, email):
    admission = settings(tmp_path, "Example.COM, xn--bcher-kva.example").admission()
    admission.check(normalize_address(email))


@pytest.mark.parametrize(
    "email", ["ann@example.org", "ann@sub.example.com", "ann@notexample.com", '"@example.com"@example.org']
)
def test_an_address_of_another_domain_is_refused_with_the_domains(tmp_path, email):
    admission = settings(tmp_path, "example.com").admission()
    with pytest.raises(SignUpClosed, match=r"^only people with an e-mail address of example\.com can sign up; "):
        admission.check(email)


def test_a_refusal_names_some_domains_and_the_number_of_the_others():
    admission = Admission(SignUpPolicy.DOMAINS, tuple(f"{number}.example" for number in range(7)))
    with pytest.raises(SignUpClosed, match=r"0\.example, .*, 4\.example or 2 more can"):
        admission.check("ann@example.com")


@pytest.mark.parametrize(
    ("domains", "complaint"),
    [
        ("", "needs at least one domain"),
        ("example.com,", "should match"),
        ("ann@example.com", "should match"),
        ("not a domain", "should match"),
        ("-x-", "is no domain of e-mail addresses"),
        (",".join(f"{number}.example" for number in range(101)), "at most 100"),
    ],
    ids=["none", "empty", "address", "spaces", "malformed", "too-many"],
)
def test_a_list_of_something_else_stops_the_service(tmp_path, domains, complaint):
    with pytest.raises(ValidationError, match=complaint):
        settings(tmp_path, domains)


def test_without_a_policy_nobody_signs_up_unasked():
    assert AuthSettings.model_fields["sign_up_policy"].default is SignUpPolicy.INVITED


async def test_a_refused_sign_up_hashes_nothing_counts_nothing_and_tells_nothing_of_accounts(tmp_path):
    request = auth_pb2.SignUpRequest(email="ann@example.com", password=PASSWORD, device_name="laptop")
    async with serving(tmp_path, sign_up_policy="invited", password_places=4, sign_up_limit_per_network=1) as auth:
        for _ in range(10):
            with refused("PERMISSION_DENIED", "SIGN_UP_CLOSED"):
                await auth.stub.SignUp(request)
        assert await auth.store.login("ann@example.com") is None
