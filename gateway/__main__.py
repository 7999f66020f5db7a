"""`python -m gateway`: serve until SIGTERM."""

from __future__ import annotations

from runtime.imports import uncollected

with uncollected():
    import gateway.api  # noqa: F401 # what its import leaves behind is collected before the rest takes more memory
with uncollected():
    from gateway.bootstrap import bootstrap, on_aws
    from gateway.serving import run_gateway
    from gateway.settings import GatewaySettings
    from runtime.process import serve


def main() -> None:
    """Read the settings and serve."""
    serve(GatewaySettings, on_aws, bootstrap, run_gateway, name="gateway")


if __name__ == "__main__":
    main()
