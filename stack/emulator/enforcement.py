"""Enforcement of signatures and policies as AWS enforces them: the parts of ministack that differ from AWS are
replaced.
"""

from __future__ import annotations

import functools
import importlib
import itertools
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

_CONDITIONS: Final = {
    "s3:PutObject": ("if-none-match", "x-amz-server-side-encryption-customer-algorithm", "x-amz-storage-class"),
    "s3:DeleteObject": ("if-match",),
}
"""Request headers that are condition keys on AWS but not in the emulator."""


def enforce_as_aws(emulator: Any, *, root_key_id: str) -> None:
    """Replace the parts of ministack that enforce less than AWS does, or enforce other rules.

    `emulator` is the module `ministack.app`, and `root_key_id` the id of the only access key that is root.
    """
    _know_s3_conditions()
    _hide_what_is_missing(emulator)
    _match_as_iam()
    _know_whole_keys()
    _know_one_root(root_key_id)


def _know_s3_conditions() -> None:
    actions: Any = importlib.import_module("ministack.core.iam_actions")
    known = actions.s3_service_context

    @functools.wraps(known)
    def s3_service_context(
        action: str, query: Any, path: str = "", headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        context: dict[str, Any] = known(action, query, path, headers)
        for name in _CONDITIONS.get(action, ()):
            if value := (headers or {}).get(name, "").strip():
                context[f"s3:{name}"] = value
        if action == "s3:PutObject":
            parts = {"uploads", "partNumber"} & set(query or ())
            context["s3:ObjectCreationOperation"] = "false" if parts else "true"
        # S3 accepts only `*` for a PUT; the emulator would accept an ETag, which permits overwriting.
        if context.get("s3:if-none-match", "*") != "*":
            del context["s3:if-none-match"]
        return context

    actions.s3_service_context = s3_service_context


def _hide_what_is_missing(emulator: Any) -> None:
    s3: Any = importlib.import_module("ministack.services.s3")
    known = s3.handle_request

    @functools.wraps(known)
    async def handle_request(
        method: str, path: str, headers: Mapping[str, str], body: bytes, query: Any, **more: Any
    ) -> tuple[int, Mapping[str, str], Any]:
        answer: tuple[int, Mapping[str, str], Any] = await known(method, path, headers, body, query, **more)
        bucket, _, key = path.lstrip("/").partition("/")
        if answer[0] != HTTPStatus.NOT_FOUND or not key or not _is_missing_key(method, answer[2]):
            return answer
        listed = f"arn:aws:s3:::{bucket}"
        denial = emulator._enforce_data_plane("s3", "s3:ListBucket", headers, query, "", resource_arn=listed)
        if denial is None:
            return answer
        status, fields, text = denial
        return status, fields, b"" if method == "HEAD" else text

    s3.handle_request = handle_request


def _is_missing_key(method: str, body: Any) -> bool:
    """Return True for the answer that an object does not exist; an answer to HEAD has no body with the reason."""
    return method == "HEAD" or (method == "GET" and isinstance(body, bytes) and b"<Code>NoSuchKey</Code>" in body)


def _match_as_iam() -> None:
    """Make patterns in policies match as on AWS:

    - `*` and `?` stand for any characters, and for any character, newlines included.
    - A pattern matches a whole text: `$` of a regular expression also matches before a newline at the end.
    - `${*}`, `${?}` and `${$}` stand for the characters `*`, `?` and `$`.
    """
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    wildcards = {"*": ".*", "?": "."}

    @functools.lru_cache(maxsize=4096)
    def _fnmatch_compile(pattern: str, ignore_case: bool) -> re.Pattern[str]:
        parts = re.split(r"\$\{([*?$])\}", pattern)
        expression = "".join(
            re.escape(part) if is_literal else "".join(wildcards.get(one, re.escape(one)) for one in part)
            for part, is_literal in zip(parts, itertools.cycle((False, True)), strict=False)
        )
        return re.compile(rf"\A(?:{expression})\Z", re.DOTALL | (re.IGNORECASE if ignore_case else 0))

    evaluator._fnmatch_compile = _fnmatch_compile


def _know_whole_keys() -> None:
    """Check policies with the key under which an object is stored. The emulator would leave out slashes at the end of a
    key, and all but one of several slashes, so that an object of a key that no policy allows could be stored.
    """
    actions: Any = importlib.import_module("ministack.core.iam_actions")
    known = actions.extract_resource_arn

    @functools.wraps(known)
    def extract_resource_arn(service: str, method: str, path: str, *more: Any) -> str:
        bucket, _, key = path.lstrip("/").partition("/")
        if service == "s3" and key:
            return f"arn:aws:s3:::{bucket}/{key}"
        arn: str = known(service, method, path, *more)
        return arn

    actions.extract_resource_arn = extract_resource_arn


def _know_one_root(access_key_id: str) -> None:
    evaluator: Any = importlib.import_module("ministack.core.iam_evaluator")
    sts: Any = importlib.import_module("ministack.services.sts")

    def is_root_access_key(key: str) -> bool:
        return key == access_key_id

    def is_exempt_from_signature_checks(_key: str) -> bool:
        return False

    evaluator.is_root_access_key = sts.is_root_access_key = is_root_access_key
    evaluator._is_root_key = is_exempt_from_signature_checks
