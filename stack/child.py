"""Start a program that ends when its parent does, however that ends.

    python -I -S child.py PARENT PROGRAM [ARGUMENT...]

On Linux the kernel kills the program when the process PARENT (its id) is gone. Elsewhere this only starts the
program. A file to run rather than a function to call between fork and exec, because Python code there can deadlock
in a process that has threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # The parent ended before the kernel was told.
            raise SystemExit(1)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # replacing this process is the purpose


if __name__ == "__main__":
    main()
