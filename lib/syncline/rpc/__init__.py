"""How a call travels, for both ends of it: channels, errors, what is tried again, request ids and traces."""

import os

# gRPC's core logs beside Python's logging, in a form of its own; what fails there raises an error too. It reads this
# when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
