"""Accounts, sessions, devices and keys."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Request, Response

from gateway.api import conversions, models
from gateway.api.idempotency import Named
from gateway.api.identifiers import TextId
from gateway.api.paging import LongPage, PageToken
from gateway.identity.caller import COOKIE, GatewayServices, Signed, check_origin, csrf_token
from gateway.services.calls import ask
from syncline.auth.v1 import auth_pb2

router: Final = APIRouter(tags=["accounts"])

_COOKIE_SECONDS: Final = 30 * 86_400
"""Lifetime of the cookie in seconds: the idle lifetime of a browser's key."""

DeviceId = Annotated[TextId, Path(description="The device.")]


@router.post("/accounts", status_code=201)
async def sign_up(
    body: models.SignUp, request: Request, response: Response, services: GatewayServices
) -> models.SignedIn:
    """Make an account, with its personal space, and sign in its first device."""
    check_origin(request)
    answer = await ask(
        services.auth.SignUp,
        auth_pb2.SignUpRequest(
            email=body.email,
            password=body.password,
            device_name=body.device_name,
            kind=_kind(body.browser),
            invitation=body.invitation,
        ),
    )
    return _signed_in(answer, response)


@router.post("/sessions", status_code=201)
async def sign_in(
    body: models.SignIn, request: Request, response: Response, services: GatewayServices
) -> models.SignedIn:
    """Sign in a new device of an account by e-mail address and password, and by a code if the account has a second
    factor: without it, 401 with SECOND_FACTOR_NEEDED; 403 with WRONG_CODE for a code that is wrong or was used.
    """
    check_origin(request)
    answer = await ask(
        services.auth.SignIn,
        auth_pb2.SignInRequest(
            email=body.email,
            password=body.password,
            device_name=body.device_name,
            kind=_kind(body.browser),
            code=body.code,
        ),
    )
    return _signed_in(answer, response)


@router.post("/sessions/refresh")
async def refresh(body: models.Refresh, services: GatewayServices) -> models.Tokens:
    """Exchange a refresh token for a new access token and a new refresh token. The old refresh token is accepted until
    the new one is used.
    """
    asked = auth_pb2.RefreshTokenRequest(refresh_token=body.refresh_token)
    answer = await ask(services.auth.RefreshToken, asked)
    return conversions.tokens(answer.tokens)


@router.get("/session")
async def session(caller: Signed, services: GatewayServices) -> models.SignedIn:
    """Get the account and the device that are signed in; for a browser also the token that its changes must carry."""
    answer = await ask(services.auth.GetAccount, auth_pb2.GetAccountRequest(), token=caller.token)
    return models.SignedIn(
        account=conversions.account(answer.account),
        device=conversions.device(answer.device, current=answer.device.device_id),
        csrf_token=csrf_token(caller.key) if caller.browser else None,
        usage=conversions.usage(answer.usage),
    )


@router.post("/session/proof")
async def prove_address(body: models.AddressProof, caller: Signed, services: GatewayServices) -> models.Account:
    """Prove that mail to the address of the account arrives, by the token that was mailed to it.

    Only a session of the account that the token was made for can do this. 400 with PROOF_INVALID for any other token,
    and 409 with ADDRESS_TAKEN if the address was proven for another account.
    """
    asked = auth_pb2.ProveAddressRequest(token=body.token)
    return conversions.account((await ask(services.auth.ProveAddress, asked, token=caller.token)).account)


@router.post("/session/proof/resend", status_code=204)
async def request_proof(caller: Signed, services: GatewayServices) -> None:
    """Have another mail with a proof sent to the address of the account, unless the address is proven."""
    await ask(services.auth.RequestProof, auth_pb2.RequestProofRequest(), token=caller.token)


@router.delete("/session", status_code=204)
async def sign_out(response: Response, caller: Signed, services: GatewayServices) -> None:
    """Sign out the calling device."""
    await ask(services.auth.SignOut, auth_pb2.SignOutRequest(), token=caller.token)
    if caller.keys is not None:
        caller.keys.forget(caller.key)
    if caller.browser:
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")


@router.get("/devices")
async def list_devices(
    caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Devices:
    """List the caller's devices, browsers and programs, newest first."""
    here = caller.claims.device
    asked = auth_pb2.ListDevicesRequest(page_size=page_size, page_token=page_token)
    answer = await ask(services.auth.ListDevices, asked, token=caller.token)
    return models.Devices(
        devices=[conversions.device(device, current=here) for device in answer.devices],
        next_page_token=answer.next_page_token or None,
    )


@router.delete("/devices/{device_id}")
async def revoke_device(
    device_id: DeviceId,
    caller: Signed,
    services: GatewayServices,
    end_links: Annotated[bool, Query(description="End the public links that the device has made, too.")] = False,
) -> models.DeviceEnd:
    """Sign out a device, or revoke a key. The keys that the device has made end with it.

    If the device was signed out before, the keys and links that it made and that are still valid are ended now.
    """
    here = caller.claims.device
    asked = auth_pb2.RevokeDeviceRequest(device_id=device_id, end_links=end_links)
    return conversions.device_end(await ask(services.auth.RevokeDevice, asked, token=caller.token), current=here)


@router.get("/keys")
async def list_keys(
    caller: Signed, services: GatewayServices, page_size: LongPage, page_token: PageToken = ""
) -> models.Devices:
    """List the caller's keys for programs that are not revoked, newest first."""
    asked = auth_pb2.ListDevicesRequest(page_size=page_size, page_token=page_token)
    answer = await ask(services.auth.ListDevices, asked, token=caller.token)
    keys = [one for one in answer.devices if one.kind == auth_pb2.DEVICE_KIND_PROGRAM and not one.revoked_at_ms]
    return models.Devices(
        devices=[conversions.device(key, current="") for key in keys], next_page_token=answer.next_page_token or None
    )


@router.post("/keys", status_code=201)
async def create_key(body: models.NewKey, name: Named, caller: Signed, services: GatewayServices) -> models.Key:
    """Make a key with which a program acts on behalf of the caller. The key is shown only this once.

    `scopes` says what the key is for: `read`, `write` (files, and new spaces), `share` (members and public links).
    With `spaces` it opens these spaces only. No key changes devices, keys or the account: such a request is answered
    with 403.
    """
    answer = await ask(
        services.auth.CreateKey,
        auth_pb2.CreateKeyRequest(
            request_id=name.id,
            name=body.name,
            expires_at_ms=body.expires_at_ms,
            scopes=map(conversions.scope_to_wire, body.scopes),
            space_ids=body.spaces or (),
        ),
        token=caller.token,
    )
    return models.Key(device=conversions.device(answer.device, current=""), key=answer.key)


def _signed_in(answer: auth_pb2.SignUpResponse | auth_pb2.SignInResponse, response: Response) -> models.SignedIn:
    told = models.SignedIn(
        account=conversions.account(answer.account),
        device=conversions.device(answer.device, current=answer.device.device_id),
        space_id=answer.space_id or None if isinstance(answer, auth_pb2.SignUpResponse) else None,
    )
    response.headers["cache-control"] = "no-store"
    if not answer.key:
        return told.model_copy(update={"tokens": conversions.tokens(answer.tokens)})
    response.set_cookie(
        COOKIE, answer.key, max_age=_COOKIE_SECONDS, path="/", secure=True, httponly=True, samesite="strict"
    )
    return told.model_copy(update={"csrf_token": csrf_token(answer.key)})


def _kind(browser: bool) -> auth_pb2.DeviceKind.ValueType:
    return auth_pb2.DEVICE_KIND_BROWSER if browser else auth_pb2.DEVICE_KIND_CLIENT
