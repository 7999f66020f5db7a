"""Sending mail with SES."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from aws.errors import aws_errors, error_code
from services.notify.ports import MailRefused
from services.notify.records import Mail
from syncline.model.errors import Unavailable

if TYPE_CHECKING:
    from types_aiobotocore_sesv2.client import SESV2Client

_LATER: Final = frozenset(
    {"AccountSuspendedException", "LimitExceededException", "SendingPausedException", "TooManyRequestsException"}
)
"""Errors of SES that are transient or that the operator can resolve. The mail can be sent again."""
_NEVER: Final = "BadRequestException"
"""Error of SES for an invalid address. (For our own address, or in the sandbox, SES answers MessageRejected.)"""


class SesMailSender:
    """Implements MailSender on SES, version 2."""

    def __init__(self, client: SESV2Client, *, sender: str, configuration_set: str | None) -> None:
        self._client: Any = client  # optional arguments are left out, which its type stubs do not allow
        self._fixed = {"FromEmailAddress": sender}
        if configuration_set is not None:
            self._fixed["ConfigurationSetName"] = configuration_set

    async def send(self, mail: Mail) -> None:
        try:
            with aws_errors("mail"):
                await self._client.send_email(
                    **self._fixed,
                    Destination={"ToAddresses": [mail.to]},
                    Content={
                        "Simple": {
                            "Subject": _utf8(mail.subject),
                            "Body": {"Text": _utf8(mail.text), "Html": _utf8(mail.html)},
                        }
                    },
                )
        except ClientError as error:
            if error_code(error) in _LATER:
                raise Unavailable(f"mail cannot be sent now ({error_code(error)}); it will be sent later") from error
            if error_code(error) == _NEVER:
                raise MailRefused(error.response.get("Error", {}).get("Message", "")) from None
            raise


def _utf8(text: str) -> dict[str, str]:
    return {"Data": text, "Charset": "UTF-8"}
