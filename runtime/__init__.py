"""How a process runs: settings, logs, server, channels, interceptors. It knows no business."""

import os

# gRPC's core logs beside Python's logging, in a form of its own; what fails there raises an error too. It reads this
# when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
