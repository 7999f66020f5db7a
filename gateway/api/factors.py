"""Second factors: an authenticator app whose codes a sign-in needs as well as the password."""

from __future__ import annotations

import io
from typing import Final

import segno
from fastapi import APIRouter

from gateway.api import models
from gateway.api.idempotency import SecretlyNamed
from gateway.identity.caller import GatewayServices, Signed
from gateway.services.calls import ask
from syncline.auth.v1 import auth_pb2

router: Final = APIRouter(prefix="/factors", tags=["accounts"])


@router.get("")
async def list_factors(caller: Signed, services: GatewayServices) -> models.Factors:
    """List the second factors of the account: one or none."""
    answer = await ask(services.auth.ListFactors, auth_pb2.ListFactorsRequest(), token=caller.token)
    return models.Factors(
        factors=[
            models.Factor(added_at_ms=factor.added_at_ms, recovery_codes_left=factor.recovery_codes_left)
            for factor in answer.factors
        ]
    )


@router.post("", status_code=201)
async def add_factor(
    body: models.PasswordAgain, name: SecretlyNamed, caller: Signed, services: GatewayServices
) -> models.NewFactor:
    """Begin to add an authenticator app. It has no effect until a code of the app has confirmed it.

    403 with WRONG_CURRENT_PASSWORD for a wrong password, and 409 with FACTOR_EXISTS if there is a factor.
    """
    asked = auth_pb2.AddTotpRequest(request_id=name.id, password=body.password)
    answer = await ask(services.auth.AddTotp, asked, token=caller.token)
    drawn = io.BytesIO()
    segno.make(answer.uri, error="m", micro=False).save(
        drawn, kind="svg", xmldecl=False, nl=False, light="#fff", scale=4
    )
    return models.NewFactor(secret=answer.secret, uri=answer.uri, qr=drawn.getvalue().decode())


@router.post("/confirm")
async def confirm_factor(body: models.FactorCode, caller: Signed, services: GatewayServices) -> models.RecoveryCodes:
    """Confirm the authenticator app by a code that it shows. From then on every sign-in needs a code.

    403 with WRONG_CODE for a wrong code, 404 with NO_SUCH_FACTOR if none was added, and 409 with FACTOR_EXISTS if it is
    confirmed already.
    """
    answer = await ask(services.auth.ConfirmTotp, auth_pb2.ConfirmTotpRequest(code=body.code), token=caller.token)
    return models.RecoveryCodes(recovery_codes=list(answer.recovery_codes))


@router.post("/remove", status_code=204)
async def remove_factor(body: models.PasswordAndCode, caller: Signed, services: GatewayServices) -> None:
    """Remove the second factor, by the password and a code of the app or a recovery code.

    403 with WRONG_CURRENT_PASSWORD or WRONG_CODE, and 404 with NO_SUCH_FACTOR if there is no factor.
    """
    asked = auth_pb2.RemoveFactorRequest(password=body.password, code=body.code)
    await ask(services.auth.RemoveFactor, asked, token=caller.token)
