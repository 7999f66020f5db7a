"""Run a command and write its peak of resident memory, in KiB, to a descriptor: `python peak.py DESCRIPTOR COMMAND...`.

The kernel also counts the memory that a process had before its exec, which is its parent's. The parent therefore has to
be a process as small as this one.
"""

import os
import sys


def main() -> int:
    descriptor, *command = sys.argv[1:]
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(child, 0)
    os.write(int(descriptor), str(usage.ru_maxrss).encode())
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
