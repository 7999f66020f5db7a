from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError


def found_item(error: ClientError) -> Mapping[str, Any] | None:
    """The item that failed a condition, if the call asked for it by ReturnValuesOnConditionCheckFailure."""
    item: Mapping[str, Any] | None = error.response.get("Item")  # type: ignore[assignment]  # only of DynamoDB
    return item
