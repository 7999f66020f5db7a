"""AWS clients: configured by the SDK's own variables, with limits on time and attempts, with metrics, and with little
memory.

`AWS_ENDPOINT_URL` and `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_REGION` or `AWS_DEFAULT_REGION`, and all sources of
credentials work as in every SDK. Only this package and adapters import botocore.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from runtime.imports import absent

with absent("httpx", "httpx2"):  # an alternative to aiohttp, which aiobotocore imports if it is installed
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from aiobotocore.session import AioSession

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.handlers import generate_idempotent_uuid
from botocore.loaders import JSONFileLoader, Loader

from aws.errors import THROTTLES, error_code, is_passing
from runtime import metrics
from runtime.network import current_share
from runtime.pool import Pool
from syncline.model.errors import Unavailable
from syncline.rpc import traces

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from botocore.credentials import ReadOnlyCredentials
    from types_aiobotocore_dynamodb.client import DynamoDBClient
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_sesv2.client import SESV2Client
    from types_aiobotocore_sns.client import SNSClient
    from types_aiobotocore_sqs.client import SQSClient
    from types_aiobotocore_sts.client import STSClient

ServiceName = Literal["dynamodb", "s3", "sesv2", "sns", "sqs", "sts"]

_MAX_ATTEMPTS: Final = 4
_CONNECT_SECONDS: Final = 3
_READ_SECONDS: Final = 20
MAX_AWS_REQUESTS: Final = 50
"""Maximum number of concurrent requests of one client. Callers share them fairly; one caller alone has half of them."""
_UNLIMITED: Final = 0
"""The limit of connections with which aiohttp has none."""
_CREDENTIALS_SECONDS: Final = 5.0
"""Seconds for which the process uses its own credentials before it asks the SDK again whether to renew them."""

_UNUSED_KEYS = frozenset({"documentation", "documentationUrl"})
_ENDPOINT_PREFIXES = frozenset({"dynamodb", "s3", "email", "sns", "sqs", "sts"})

_NAMES: Final[Mapping[str, str]] = {
    "dynamodb": "DynamoDB",
    "s3": "S3",
    "sesv2": "SES",
    "sns": "SNS",
    "sqs": "SQS",
    "sts": "STS",
}
_COUNTED_UNITS: Final = frozenset(
    {"BatchGetItem", "BatchWriteItem", "DeleteItem", "GetItem", "PutItem", "Query", "TransactWriteItems", "UpdateItem"}
)
"""Operations of DynamoDB that report their consumed capacity on request."""


@lru_cache(maxsize=1)
def session() -> AioSession:
    """Return the session of the process: one set of loaded service models, one chain of credentials."""
    # botocore itself reads only AWS_DEFAULT_REGION, whereas ECS, Lambda and the other SDKs use AWS_REGION.
    region = ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)
    created = AioSession(session_vars={"region": region})
    loader = Loader()
    loader.file_loader = _LeanLoader()
    created.register_component("data_loader", loader)
    created.register("creating-client-class", _measure)
    created.register("needs-retry", _count_throttle)
    # aws/dynamodb.py sets the tokens of transactions that need one; no other call of ours has an idempotency token.
    created.unregister("before-parameter-build", generate_idempotent_uuid)  # type: ignore[arg-type]  # as botocore has it
    return created


def config(**overrides: Any) -> AioConfig:
    """Return the configuration of an AWS client; `overrides` are arguments of botocore's Config that replace the
    defaults.

    botocore repeats calls after transient faults (standard mode), so no code may repeat a call for the same reason.
    """
    defaults: dict[str, Any] = {
        "connect_timeout": _CONNECT_SECONDS,
        "read_timeout": _READ_SECONDS,
        "max_pool_connections": MAX_AWS_REQUESTS,
        "http_session_cls": _FairSession,
        "retries": {"mode": "standard", "total_max_attempts": _MAX_ATTEMPTS},
        "tcp_keepalive": True,
    }
    return AioConfig(**(defaults | overrides))


class Clients:
    """Opens clients and closes all of them at the end: `async with Clients() as clients`."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, traceback)

    @overload
    async def open(self, service: Literal["dynamodb"], **overrides: Any) -> DynamoDBClient: ...
    @overload
    async def open(self, service: Literal["s3"], **overrides: Any) -> S3Client: ...
    @overload
    async def open(self, service: Literal["sesv2"], **overrides: Any) -> SESV2Client: ...
    @overload
    async def open(self, service: Literal["sns"], **overrides: Any) -> SNSClient: ...
    @overload
    async def open(self, service: Literal["sqs"], **overrides: Any) -> SQSClient: ...
    @overload
    async def open(self, service: Literal["sts"], **overrides: Any) -> STSClient: ...
    async def open(self, service: ServiceName, **overrides: Any) -> Any:
        """Return a client of `service`; `overrides` are botocore Config arguments."""
        opening: Any = session().create_client(service, config=config(**overrides))
        return await self._stack.enter_async_context(opening)


class RoleCredentials:
    """The process's own credentials, which the SDK renews some minutes before they expire."""

    def __init__(self) -> None:
        self._found: Any = None
        self._held: ReadOnlyCredentials | None = None
        self._asked = 0.0

    async def current(self) -> ReadOnlyCredentials:
        """Return the credentials with which to sign a request now. Raise Unavailable if the SDK finds no credentials at
        the moment.
        """
        # Asking the SDK whether the credentials have to be renewed takes as long as signing does.
        if self._held is not None and time.monotonic() - self._asked < _CREDENTIALS_SECONDS:
            return self._held
        try:
            if self._found is None:
                self._found = await session().get_credentials()
            if self._found is None:
                raise NoCredentialsError
            frozen: ReadOnlyCredentials = await self._found.get_frozen_credentials()
        except BotoCoreError as error:
            raise Unavailable("the credentials of this server are not available at the moment; try again") from error
        self._held, self._asked = frozen, time.monotonic()
        return frozen


def region() -> str:
    """Return the region of the AWS services that the process uses."""
    return str(session().get_config_variable("region"))


def s3_endpoint() -> str | None:
    """Return the address of S3 from the variables that every SDK reads; None if it is AWS's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


@dataclass(slots=True)
class AwsCall:
    """A call to AWS in progress. The code that makes the call sets `outcome`, which is a label of the metrics."""

    span: traces.Span
    outcome: Literal["ok", "refused", "throttled", "failed"] = "failed"


@contextmanager
def measured(service: str, operation: str) -> Iterator[AwsCall]:
    """Context manager that records the metrics and the span of one call to AWS, which is made within it. `service` and
    `operation` name the call as botocore does.
    """
    began = time.perf_counter()
    span = traces.span(
        f"{_NAMES[service]}.{operation}",
        kind=traces.SpanKind.CLIENT,
        rpc__system="aws-api",
        rpc__service=_NAMES[service],
        rpc__method=operation,
    )
    call = AwsCall(span)
    try:
        yield call
    finally:
        metrics.AWS_CALLS.labels(service, operation, call.outcome).inc()
        metrics.AWS_SECONDS.labels(service, operation).observe(time.perf_counter() - began)
        if call.outcome not in {"ok", "refused"}:
            span.fail(call.outcome)
        span.end()


class _FairSession(AIOHTTPSession):
    """The connections of one client, which callers share fairly: aiohttp grants them in the order of arrival, so that
    one caller's requests could take all of them and have others wait.

    A request has its slot until its answer is complete. The body of an object of S3 is read afterwards; its reader has
    taken memory for it from a pool. A pause before another attempt takes no slot. No request is refused, because its
    call has begun, and has a deadline.
    """

    def __init__(self, *, max_pool_connections: int, **rest: Any) -> None:
        super().__init__(max_pool_connections=_UNLIMITED, **rest)
        self._requests = Pool("aws_requests", max_pool_connections, counted=True, refuses=False)

    async def send(self, request: Any) -> Any:
        """Send one HTTP request of the SDK and return the answer, after waiting until the share of the current call may
        have one of the MAX_AWS_REQUESTS slots.
        """
        async with self._requests.lent(1, current_share(), patience=None):
            return await super().send(request)


def _measure(class_attributes: dict[str, Any], base_classes: list[type], **_: Any) -> None:
    """Add `_Measured` to the bases of a client class, by the SDK's hook for generated classes."""
    del class_attributes
    base_classes.insert(0, _Measured)


class _Measured:
    """Measures every call of a client, whichever method was used."""

    meta: Any

    async def _make_api_call(self, operation_name: str, api_params: dict[str, Any]) -> Any:
        service = str(self.meta.service_model.service_name)
        inner: Any = super()
        if operation_name in _COUNTED_UNITS:
            api_params = {"ReturnConsumedCapacity": "TOTAL", **api_params}
        with measured(service, operation_name) as call:
            try:
                answer = await inner._make_api_call(operation_name, api_params)
            except ClientError as error:
                call.outcome = _outcome(error)
                call.span.note(aws__error_code=error_code(error))
                raise
            call.outcome = "ok"
        if operation_name in _COUNTED_UNITS:
            metrics.DYNAMODB_UNITS.labels(operation_name).inc(_units(answer))
        return answer


def _outcome(error: ClientError) -> Literal["refused", "throttled", "failed"]:
    """Return the label of an error in the metrics. `refused` is a regular answer: a condition that does not hold, an
    object that does not exist.
    """
    if error_code(error) in THROTTLES:
        return "throttled"
    return "failed" if is_passing(error) else "refused"


def _units(answer: Mapping[str, Any]) -> float:
    counted = answer.get("ConsumedCapacity", ())
    tables = [counted] if isinstance(counted, Mapping) else counted
    return sum(float(table.get("CapacityUnits", 0)) for table in tables)


def _count_throttle(response: tuple[Any, Mapping[str, Any]] | None, operation: Any, **_: Any) -> None:
    """Count a throttled attempt. The SDK repeats such attempts itself, so its callers do not see them."""
    if response is not None and response[1].get("Error", {}).get("Code") in THROTTLES:
        metrics.AWS_THROTTLES.labels(operation.service_model.service_name).inc()


class _LeanLoader(JSONFileLoader):
    """Reads botocore's service descriptions without their documentation and without the endpoints of other services.

    Documentation and endpoints take most of the memory of a client.
    """

    def _load_file(self, full_path: str, open_method: Callable[..., Any]) -> Any:
        if not Path(full_path).is_file():
            return None
        with open_method(full_path, "rb") as file:
            data = json.loads(file.read(), object_pairs_hook=_without_manual)
        if Path(full_path).name.startswith("endpoints.json"):
            for partition in data["partitions"]:
                services = partition["services"]
                partition["services"] = {name: services[name] for name in _ENDPOINT_PREFIXES & services.keys()}
        return data


def _without_manual(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    lean = {key: value for key, value in pairs if not (key in _UNUSED_KEYS and isinstance(value, str))}
    if lean.keys() == {"type"} and len(pairs) == 2:
        # A parameter of S3's client context is also described by such a mapping, and botocore requires its
        # documentation.
        lean["documentation"] = ""
    return lean
