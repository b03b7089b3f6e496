"""Becomes another program, and ends with the process that started it.

Run by its path, so that nothing of the package is imported on the way:

    python -I -S child.py SUPERVISOR_PID PROGRAM [ARGUMENT ...]

On Linux the kernel kills the program when its supervisor ends, even by ``kill -9``: the mark
survives ``exec``. Elsewhere the kernel offers no such thing and the program is only started.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Mark this process and become the program."""
    supervisor, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        # SIGKILL, because a program that is stuck must not stay behind either. The work is safe:
        # whatever a killed worker held is rescued from the database.
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The supervisor may have ended before the mark was made.
    if os.getppid() == supervisor:
        os.execv(program[0], program)


if __name__ == "__main__":
    main()
