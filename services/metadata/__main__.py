"""`python -m services.metadata`: serve until SIGTERM."""

from __future__ import annotations

from runtime.imports import uncollected

with uncollected():
    from runtime.process import serve
    from runtime.rpc.server import run
    from services.metadata.bootstrap import bootstrap, on_aws
    from services.metadata.settings import MetadataSettings


def main() -> None:
    """Read the settings and serve."""
    serve(MetadataSettings, on_aws, bootstrap, run, name="metadata")


if __name__ == "__main__":
    main()
