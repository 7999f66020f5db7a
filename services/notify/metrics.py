"""Metrics of notify."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

MAILS: Final = Counter(
    "syncline_mails",
    "Mails by outcome: `sent`; `failed`, to be tried again; `refused`, as the address is none; `suppressed`: unwanted; "
    "`postponed`: news that wait for the next mail; `limited`: mails that wait since there were enough in the hour.",
    ["outcome"],
)
MAIL_PUT_BACK: Final = Counter(
    "syncline_mail_put_back",
    "Announcements that were put back behind all others, since those of the same person took all that one may have.",
)
MAIL_IN_HAND: Final = Gauge("syncline_mail_in_hand", "Announcements that this process is making into mail.")
EVENTS: Final = Counter("syncline_events_heard", "Announcements taken from this instance's own queue.")
DOORBELLS: Final = Counter("syncline_doorbells", "Doorbells rung, one for each watcher.")
WATCHES_REFUSED: Final = Counter(
    "syncline_watches_refused", "Watches that were refused since their person watches too many spaces."
)
WATCHES: Final = Gauge("syncline_open_watches", "Number of open watches.")
