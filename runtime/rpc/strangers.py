"""Closing of connections whose calls carry invalid tokens: above a rate of such calls, the connection is closed."""

from __future__ import annotations

from typing import Final

from runtime.network import direct_connection, own_connection
from runtime.permissions import Work
from runtime.rates import Rate, Rates
from runtime.rpc.intake import Intake
from syncline.model.errors import RateExceeded

REFUSALS_PER_SECOND: Final = 1.0
"""Maximum rate of calls of one connection that are refused because of their token. A client whose token has just
expired may have several calls in flight before it gets a new token.
"""
REFUSALS_AT_ONCE: Final = 64


class Strangers:
    """Counts calls that were refused because of their token, by connection, and closes a connection above
    REFUSALS_PER_SECOND.
    """

    def __init__(self, intake: Intake | None) -> None:
        self._intake = intake
        self._refusals = Rates({Work.ANONYMOUS: Rate(REFUSALS_PER_SECOND, burst=REFUSALS_AT_ONCE)})

    def accepted(self) -> None:
        """Record that the token of the current call is valid."""
        connection = direct_connection()
        if connection is not None and self._intake is not None:
            self._intake.accepted(connection)

    def refused(self) -> None:
        """Record that the token of the current call is invalid, and close its connection above the limit."""
        connection = own_connection()
        if connection is None or self._intake is None:
            return
        try:
            self._intake.refused(connection)
            self._refusals.admit(Work.ANONYMOUS, connection)
        except RateExceeded:
            self._intake.end(connection, "refused")
