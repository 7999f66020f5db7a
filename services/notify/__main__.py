"""`python -m services.notify`: serve until SIGTERM."""

from __future__ import annotations

from runtime.imports import uncollected

with uncollected():
    from runtime.process import serve
    from runtime.rpc.server import run
    from services.notify.bootstrap import bootstrap, on_aws
    from services.notify.settings import NotifySettings


def main() -> None:
    """Read the settings and serve."""
    serve(NotifySettings, on_aws, bootstrap, run, name="notify")


if __name__ == "__main__":
    main()
