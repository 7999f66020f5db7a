"""Transport of calls, for both ends: channels, errors, retries, request ids and traces."""

import os

# gRPC's core writes its own log beside Python's; its failures also raise errors. The variable is read when grpc is
# imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
