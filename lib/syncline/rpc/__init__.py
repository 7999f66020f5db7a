"""The transport of calls, for both ends: channels, errors, retries, request ids and traces."""

import os

# gRPC's core logs beside Python's logging, in a form of its own; what fails there raises an error too. It reads this
# when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
