"""The server half of the runtime: settings, logs, metrics, identity, rate limits and the process life cycle.

`rpc` serves gRPC, and `http` HTTP/1.1. This package contains no domain logic.
"""

import syncline.rpc  # noqa: F401 # imported before gRPC, which reads the environment variable that this import sets
