"""The API's description, OpenAPI 3.1."""

from __future__ import annotations

import warnings
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.api import models
from gateway.http.problems import MEDIA_TYPE

_ABOUT = """\
Everything a person can do with Syncline. Errors are `application/problem+json`; programs branch on `reason`,
which is the same in gRPC. Content goes straight to S3: see `uploads`.
"""


def described_api(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of the application's routes, which is generated at the first call."""
    if app.openapi_schema is None:
        with warnings.catch_warnings():
            # GET and HEAD have the same id here; their ids are made different below.
            warnings.filterwarnings("ignore", "Duplicate Operation ID")
            found = get_openapi(
                title="Syncline", version="1", openapi_version="3.1.0", description=_ABOUT, routes=app.routes
            )
        for operations in found["paths"].values():
            for method, operation in operations.items():
                if method == "head":
                    operation["operationId"] += "_head"
                if "security" in operation:  # the caller may use any one of the three schemes
                    operation["security"] = [{"bearer": []}, {"browser": [], "csrf": []}]
                responses = operation["responses"]
                # A request that does not validate is answered with 400, as a problem.
                responses.pop("422", None)
                for status, response in responses.items():
                    if int(status) >= 400:
                        response["content"] = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        schemas = found["components"]["schemas"]
        schemas["Problem"] = models.Problem.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        app.openapi_schema = found
    return app.openapi_schema
