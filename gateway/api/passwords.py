"""Passwords: changing the own one, and choosing a new one by a mailed reset."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request

from gateway.api import conversions, models
from gateway.api.idempotency import SecretlyNamed
from gateway.identity.caller import GatewayServices, Signed, check_origin
from gateway.services.calls import ask
from syncline.auth.v1 import auth_pb2

router: Final = APIRouter(tags=["accounts"])


@router.post("/account/password")
async def change_password(
    body: models.NewPassword, name: SecretlyNamed, caller: Signed, services: GatewayServices
) -> models.PasswordChanged:
    """Change the password of the account. All other devices are signed out, and keys end unless this one made them.

    403 with WRONG_CURRENT_PASSWORD if the current password is wrong, and 400 with WEAK_PASSWORD for a new password that
    is easily guessed. Wrong passwords are limited as at the sign-in.
    """
    answer = await ask(
        services.auth.ChangePassword,
        auth_pb2.ChangePasswordRequest(
            request_id=name.id, current_password=body.current_password, new_password=body.new_password
        ),
        token=caller.token,
    )
    return conversions.changed_password(answer, current=caller.claims.device)


@router.post("/resets", status_code=204)
async def request_reset(body: models.ResetRequest, request: Request, services: GatewayServices) -> None:
    """Have a mail sent by which a new password can be chosen, if the address has an account. The answer is the same for
    all addresses.
    """
    check_origin(request)
    await ask(services.auth.RequestReset, auth_pb2.RequestResetRequest(email=body.email))


@router.post("/resets/password", status_code=204)
async def reset_password(body: models.PasswordReset, request: Request, services: GatewayServices) -> None:
    """Choose a new password by the token of a mailed reset, which works once. All devices are signed out,
    and all keys end.

    400 with RESET_INVALID for a token that was used or has expired, or if the password was changed since, and with
    WEAK_PASSWORD for a password that is easily guessed.
    """
    check_origin(request)
    asked = auth_pb2.ResetPasswordRequest(token=body.token, new_password=body.new_password)
    await ask(services.auth.ResetPassword, asked)
