"""The server half of the runtime: settings, logs, metrics, identity, rates, interceptors and the process. It knows no
business.
"""

from syncline import rpc as rpc  # before gRPC is imported, which reads what this sets
