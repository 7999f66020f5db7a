"""`python -m services.auth`: serve until SIGTERM."""

from __future__ import annotations

from runtime.imports import uncollected

with uncollected():
    from services.auth import common_words

    # Before the other imports, because they take the memory in which the words were: 5 MB less for as long as it runs.
    common_words.condense()

    from runtime.process import serve
    from runtime.rpc.server import run
    from services.auth.bootstrap import bootstrap, on_aws
    from services.auth.settings import AuthSettings


def main() -> None:
    """Read the settings and serve."""
    serve(AuthSettings, on_aws, bootstrap, run, name="auth")


if __name__ == "__main__":
    main()
