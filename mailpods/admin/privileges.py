"""What a program gives up once it holds its ports: the rights of root."""

import ctypes
import encodings.idna  # noqa: F401  loaded when first needed, which may be too late for this user
import os
import pwd
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


RUNNER = "RUNNER_PID"  # environment: the process of one machine that started this one, and looks after it


def become(user: str | None) -> None:
    """Run as this user from now on, if started as root, and write nothing that others can read.

    Raises KeyError for a user that does not exist.
    """
    os.umask(0o027)
    if user is not None and os.geteuid() == 0:
        entry = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    if runner := os.environ.get(RUNNER):
        # Only now: a change of the user takes the wish back (prctl(2)).
        die_with_parent(signal.SIGTERM)
        if os.getppid() != int(runner):
            raise SystemExit("the runner has ended")


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def adopt_orphans() -> None:
    """Have the kernel make the children of a child that ends this process's own (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
