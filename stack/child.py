"""Start a program that ends when its parent does, however the parent ends.

    python -I -S child.py PARENT PROGRAM [ARGUMENT...]

On Linux the kernel kills the program when the process PARENT (its id) is gone. On other systems, this only starts the
program. It is a program rather than a function between fork and exec, because Python code there can deadlock in a
process with threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # from linux/prctl.h


def main() -> None:
    parent = int(sys.argv[1])
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
        if os.getppid() != parent:  # the parent ended before prctl took effect
            raise SystemExit(1)
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # replacing this process is the purpose


if __name__ == "__main__":
    main()
