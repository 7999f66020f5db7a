"""Asks every operation as every caller, and tells the answers in the words of docs/permissions.md."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from runtime.permissions import DAV
from syncline.admin.v1 import admin_pb2
from syncline.auth.v1 import auth_pb2
from syncline.metadata.v1 import metadata_pb2
from syncline.model.identifiers import new_request_id
from syncline.notify.v1 import notify_pb2
from syncline.rpc.errors import error_from_rpc
from tests.gateway.client import Answer, Api
from tests.permissions import operations
from tests.permissions.document import word_of
from tests.permissions.scene import CALLERS, MEMBERS, Scene

SERVICES: Final[Sequence[tuple[str, ServiceDescriptor, str]]] = (
    ("auth", auth_pb2.DESCRIPTOR.services_by_name["AuthService"], ""),
    ("auth", admin_pb2.DESCRIPTOR.services_by_name["AdminService"], "admin "),
    ("metadata", metadata_pb2.DESCRIPTOR.services_by_name["MetadataService"], ""),
    ("notify", notify_pb2.DESCRIPTOR.services_by_name["NotifyService"], ""),
)
"""Each service with the process that serves it, and the text before the names of its methods in the tables."""
SECONDS = 60.0
ATTEMPTS = 60


def rpcs(scene: Scene) -> dict[str, dict[str, str]]:
    """The words for all rpcs, by the name of the method and by caller."""
    found = {}
    for name, service, prefix in SERVICES:
        for method in service.methods:
            # A service closes a connection on which too many calls are refused because of their tokens.
            with grpc.insecure_channel(scene.target(name), [("grpc.use_local_subchannel_pool", 1)]) as channel:
                found[f"{prefix}{method.name}"] = {
                    caller: word_of(_in_time(partial(_rpc, channel, method, scene, caller))) for caller in CALLERS
                }
    return found


def _in_time(ask: Callable[[], str | None]) -> str | None:
    """The reason of the error with which a call ends once the rate of the caller admits it; None if it succeeds."""
    for _ in range(ATTEMPTS):
        reason = ask()
        if reason != "RATE_EXCEEDED":
            return reason
        time.sleep(0.5)
    raise AssertionError("the rate admits no call")


def _rpc(channel: grpc.Channel, method: MethodDescriptor, scene: Scene, caller: str) -> str | None:
    """The reason of the error with which a call ends; None if it succeeds. Of a stream the first answer tells."""
    is_admin = method.containing_service.name == "AdminService"
    make = (operations.ADMIN_RPCS if is_admin else operations.RPCS)[method.name]
    made = (operations.OF_SERVICES.get(method.name, make) if caller == "service" else make)(scene)
    messages = [one.SerializeToString() for one in (made if isinstance(made, list) else [made])]
    shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    call: Any = getattr(channel, shape)(f"/{method.containing_service.full_name}/{method.name}")
    token = scene.spare(caller) if method.name in operations.ENDING else scene.token(caller)
    credentials = (("authorization", f"Bearer {token}"),) if token else None
    request = iter(messages) if method.client_streaming else messages[0]
    try:
        answer = call(request, metadata=credentials, timeout=SECONDS)
        if method.server_streaming:
            next(answer, None)
            answer.cancel()
    except grpc.RpcError as error:
        return _reason(error_from_rpc(error), method.name, caller)
    if method.name in operations.DELETING:
        scene.undelete()
    return None


def _reason(error: Any, operation: str, caller: str) -> str:
    """The reason of an error. An argument that is refused would say nothing of rights."""
    assert error is not None, (operation, caller)
    assert error.reason not in {"INVALID_ARGUMENT", "INTERNAL"}, (operation, caller, str(error))
    return str(error.reason)


def routes(scene: Scene) -> dict[str, dict[str, str]]:
    """The words for all operations of the API, by `operationId` and by caller."""
    described = scene.owner.done("GET", "/openapi.json")["paths"]
    asked = [(path, method, one["operationId"]) for path, every in described.items() for method, one in every.items()]
    return {
        operation: {
            caller: word_of(_in_time(partial(_route, scene, caller, method, path, operation))) for caller in CALLERS
        }
        for path, method, operation in asked
        # Event streams have no end, and begin only if they are admitted: the rpc Watch tells.
        if not operation.endswith("_head") and operation != "watch"
    }


def _route(scene: Scene, caller: str, method: str, path: str, operation: str) -> str | None:
    made = operations.ROUTES.get(operation, lambda _: operations.Asked())(scene)
    known = operations.usual_parameters(scene) | {"link_id": scene.link_of(caller)} | dict(made.path)
    target = re.sub(r"\{(\w+)\}", lambda match: known[match[1]], path)
    api = scene.api(caller, spare=operation in operations.ENDING)
    answer = api.ask(method.upper(), target, made.body, query=made.query, idempotency_key=new_request_id().hex())
    problem = _problem(answer, operation, caller)
    if problem is None and operation in operations.DELETING:
        scene.undelete()
    return problem


def _problem(answer: Answer, operation: str, caller: str) -> str | None:
    if answer.status < 400:
        return None
    reason = answer.json["reason"]
    assert reason not in {"INVALID_ARGUMENT", "INTERNAL"}, (operation, caller, answer.body)
    return str(reason)


def dav(scene: Scene) -> dict[str, dict[str, str]]:
    """The words for all methods of WebDAV, by method and by caller."""
    return {method: {caller: _dav(scene, scene.api(caller), caller, method) for caller in CALLERS} for method in DAV}


def _dav(scene: Scene, api: Api, caller: str, method: str) -> str:
    path, headers, body = operations.DAV[method](f"/dav/{quote(scene.alias_of(caller))}")
    answer = replace(api, headers=api.headers | headers).ask(method, path, raw=body)
    if answer.status == 401:
        return "no"
    return {403: "no", 404: _missing(caller), 409: _missing(caller)}.get(answer.status, "yes")


def _missing(caller: str) -> str:
    """The word for something that is not there: what a path names, or the space of somebody who is no member."""
    return "yes" if caller in {*MEMBERS, "key", "reading", "sharing"} else "unseen"
