"""Closing of connections whose calls carry invalid tokens, once such calls exceed a rate."""

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
    """Counts the calls of each connection that were refused because of their token, and closes a connection whose calls
    exceed REFUSALS_PER_SECOND.
    """

    def __init__(self, intake: Intake | None) -> None:
        """`intake` closes the connections; if it is None, nothing is counted or closed."""
        self._intake = intake
        self._refusals = Rates({Work.ANONYMOUS: Rate(REFUSALS_PER_SECOND, burst=REFUSALS_AT_ONCE)})

    def accepted(self) -> None:
        """Report to the intake, if there is one, that the current call carries a valid token: its connection counts as
        known.
        """
        connection = direct_connection()
        if connection is not None and self._intake is not None:
            self._intake.accepted(connection)

    def refused(self) -> None:
        """Count the current call, whose token is missing or invalid, for its connection and its network, and close the
        connection if its refused calls exceed REFUSALS_PER_SECOND. Do nothing for a connection that a proxy or the
        gateway shares among callers, and without an intake.
        """
        connection = own_connection()
        if connection is None or self._intake is None:
            return
        try:
            self._intake.refused(connection)
            self._refusals.admit(Work.ANONYMOUS, connection)
        except RateExceeded:
            self._intake.end(connection, "refused")
