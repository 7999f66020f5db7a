"""The server half of the runtime: settings, logs, metrics, identity, rate limits, interceptors and the process life
cycle. This package contains no domain logic.
"""

from syncline import rpc as rpc  # imported before gRPC, which reads the environment variable that this import sets
