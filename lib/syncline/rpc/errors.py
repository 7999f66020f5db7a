"""The table that maps kinds of errors to gRPC and HTTP, and the encoding and decoding of errors on the wire.

This module depends only on grpc and the common protos, because both clients and servers use it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

# The package ships stubs but no py.typed marker.
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]

from syncline.model.errors import RETRY_AFTER, Kind, RequestTooLarge, SynclineError, Unauthenticated, Unavailable
from syncline.rpc.request_ids import REQUEST_ID_KEY

if TYPE_CHECKING:
    from typing import Never

_Detail = TypeVar("_Detail", bound=Message)

DOMAIN = "syncline"
DETAILS_KEY = "grpc-status-details-bin"
_ATTEMPTS_OF_GRPC: Final = "grpc-previous-rpc-attempts"
"""The key by which gRPC tells a server, but not the caller, how many attempts of the call came before."""
_ATTEMPTS_KEY: Final = "syncline-previous-attempts"
"""The key in the trailers of an error by which the server tells the caller the number of earlier attempts."""


class Wire(NamedTuple):
    """The status of a kind of error in gRPC and in HTTP."""

    grpc: grpc.StatusCode
    http: int


TABLE: Final[Mapping[Kind, Wire]] = MappingProxyType(
    {
        Kind.INVALID: Wire(grpc.StatusCode.INVALID_ARGUMENT, 400),
        Kind.UNAUTHENTICATED: Wire(grpc.StatusCode.UNAUTHENTICATED, 401),
        Kind.DENIED: Wire(grpc.StatusCode.PERMISSION_DENIED, 403),
        Kind.NOT_FOUND: Wire(grpc.StatusCode.NOT_FOUND, 404),
        Kind.ALREADY_EXISTS: Wire(grpc.StatusCode.ALREADY_EXISTS, 409),
        Kind.CONFLICT: Wire(grpc.StatusCode.ABORTED, 409),
        Kind.PRECONDITION: Wire(grpc.StatusCode.FAILED_PRECONDITION, 412),
        Kind.EXHAUSTED: Wire(grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        Kind.UNAVAILABLE: Wire(grpc.StatusCode.UNAVAILABLE, 503),
        Kind.DEADLINE: Wire(grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        Kind.INTERNAL: Wire(grpc.StatusCode.INTERNAL, 500),
    }
)

MAX_TEXT_BYTES: Final = 1024
"""Maximum size of the text of an error, in bytes. Its encoding in trailers may take three times as many, and a call
fails if the trailers exceed 16 KiB.
"""
_TOO_LARGE: Final = ("larger than max", "metadata size exceeds")
"""Substrings by which grpc's own errors about limits are recognised: they carry no reason."""
_KIND_OF_CODE = {wire.grpc: kind for kind, wire in TABLE.items()}


def grpc_code(error: SynclineError) -> grpc.StatusCode:
    """Return the gRPC status code of `error`."""
    return TABLE[error.kind].grpc


def http_status(error: SynclineError) -> int:
    """Return the HTTP status of `error`."""
    return TABLE[error.kind].http


def status_of(error: SynclineError) -> status_pb2.Status:
    """Return `error` as google.rpc.Status: one ErrorInfo (reason, domain, details), and a RetryInfo if the error states
    a pause.
    """
    status = status_pb2.Status(code=grpc_code(error).value[0], message=_text(error))
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=dict(error.details))
    status.details.add().Pack(info)
    if (seconds := error.retry_after_seconds) is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(seconds * 1000))
        status.details.add().Pack(retry)
    return status


def _text(error: SynclineError) -> str:
    """Return the text of an error, shortened so that the trailers, which contain it twice, stay within their limit."""
    return str(error).encode(errors="replace")[:MAX_TEXT_BYTES].decode(errors="ignore")


async def abort(
    context: grpc.aio.ServicerContext[Any, Any],
    error: SynclineError,
    *,
    metadata: tuple[tuple[str, str | bytes], ...] = (),
) -> Never:
    """End the call of `context` with `error`, by an exception of grpc. `metadata` is added to the trailers, and so is
    the number of earlier attempts of the call, if there were any.
    """
    details = (DETAILS_KEY, status_of(error).SerializeToString())
    attempts = [
        (_ATTEMPTS_KEY, value) for key, value in context.invocation_metadata() or () if key == _ATTEMPTS_OF_GRPC
    ]
    try:
        await context.abort(grpc_code(error), _text(error), (*metadata, *attempts, details))
    except grpc.aio.AbortError as aborted:
        _let_go_at_the_end(aborted)
        raise


def _let_go_at_the_end(aborted: grpc.aio.AbortError) -> None:
    """Clear the traceback and the context of an exception when its call has ended.

    grpc keeps the exception with the call, and its traceback refers to the frames that hold the call and its messages.
    This reference cycle lasts until Python's garbage collector visits old objects, and by then refused requests would
    fill the memory.
    """

    def let_go(_: object) -> None:
        error: BaseException | None = aborted
        while error is not None:
            error.__traceback__ = None
            error.__context__, error = None, error.__context__

    task = asyncio.current_task()
    assert task is not None
    task.add_done_callback(let_go)


def error_from_rpc(error: grpc.RpcError) -> SynclineError | None:
    """Return the SynclineError that the other side raised, by its reason.

    An unknown reason becomes a SynclineError with that reason, whose kind follows from the code. DEADLINE_EXCEEDED
    becomes Unavailable, whichever side timed out. Failures without a reason: UNAVAILABLE and CANCELLED become
    Unavailable, UNAUTHENTICATED becomes Unauthenticated, and any other failure becomes None, because a caller could not
    act on it. RESOURCE_EXHAUSTED without a reason is grpc's own: it becomes RequestTooLarge if a message or the
    metadata exceeds a limit, in either direction, otherwise Unavailable. INTERNAL becomes Unavailable if it does not
    come from a server of ours: a balancer resets a stream in this way when its backend disappears.
    """
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return None
    code: grpc.StatusCode = error.code()
    text: str = error.details() or ""
    trailers = error.trailing_metadata() or ()
    info = _error_info(trailers)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Unavailable(f"the service took too long, try again later ({text})")
    if info is not None:
        known = _class_for(info.reason) or _unknown_class(info.reason, _KIND_OF_CODE.get(code, Kind.INTERNAL))
        revived = _revive(known, text, info.metadata)
        revived.is_of_repetition = any(key == _ATTEMPTS_KEY for key, _ in trailers)
        if revived.retry_after_seconds is None and (pause := _retry_seconds(trailers)) is not None:
            # for an unknown class, the default pause is unknown as well
            revived.details = {**revived.details, RETRY_AFTER: str(pause)}
        return revived
    if code is grpc.StatusCode.UNAVAILABLE:
        return Unavailable(f"the service does not answer, try again later ({text})")
    if code is grpc.StatusCode.CANCELLED:  # by the other side: a local cancellation raises no error here
        return Unavailable("the service stopped before its answer was complete; try again")
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return Unauthenticated(text)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        if any(mark in text for mark in _TOO_LARGE):
            return RequestTooLarge(f"the request or its answer is larger than one call allows, split it ({text})")
        return Unavailable(f"the service accepts no more calls at the moment, try again later ({text})")
    if code is grpc.StatusCode.INTERNAL and REQUEST_ID_KEY not in {key for key, _ in trailers}:
        return Unavailable(f"the connection to the service broke off, try again ({text})")
    return None


@contextmanager
def rpc_errors() -> Iterator[None]:
    """Context that converts a grpc.RpcError from its body to the SynclineError that the other side has reported. An
    RpcError for which there is no SynclineError (`error_from_rpc`) passes through, as does any other exception.
    """
    try:
        yield
    except grpc.RpcError as error:
        known = error_from_rpc(error)
        if known is None:
            raise
        raise known from error


def _details(trailers: Any, kind: type[_Detail]) -> Iterator[_Detail]:
    """Yield the details of the type `kind` in the google.rpc.Status that the trailers of a call contain; damaged ones
    are left out.
    """
    for key, value in trailers:
        if key == DETAILS_KEY:
            with suppress(DecodeError):
                for packed in status_pb2.Status.FromString(value).details:
                    detail = kind()
                    if packed.Unpack(detail):
                        yield detail


def _error_info(trailers: Any) -> error_details_pb2.ErrorInfo | None:
    return next((info for info in _details(trailers, error_details_pb2.ErrorInfo) if info.domain == DOMAIN), None)


def _retry_seconds(trailers: Any) -> float | None:
    for retry in _details(trailers, error_details_pb2.RetryInfo):
        return float(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    return None


def _revive(cls: type[SynclineError], text: str, details: Mapping[str, str]) -> SynclineError:
    # cls.__init__ is not called: a subclass may require other arguments than the wire carries.
    error = cls.__new__(cls)
    SynclineError.__init__(error, text, **dict(details))
    return error


def _subclasses(cls: type[SynclineError]) -> Iterator[type[SynclineError]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


_by_reason: dict[str, type[SynclineError]] = {SynclineError.reason: SynclineError}


def _class_for(reason: str) -> type[SynclineError] | None:
    if reason not in _by_reason:
        # Errors may be defined in modules that were imported later, so a miss reads the subclasses again.
        _by_reason.update(
            (cls.reason, cls)
            for cls in _subclasses(SynclineError)
            if "reason" in vars(cls) and cls.__module__ != __name__
        )
    return _by_reason.get(reason)


@lru_cache(maxsize=256)
def _unknown_class(reason: str, kind: Kind) -> type[SynclineError]:
    namespace = {"reason": reason, "kind": kind, "__module__": __name__, "__doc__": reason}
    return type("UnknownReason", (SynclineError,), namespace)
