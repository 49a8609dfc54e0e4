"""What a program gives up once it holds its ports: the rights of root."""

import ctypes
import encodings.idna  # noqa: F401  loaded when first needed, which may be too late for this user
import os
import pwd
import signal

_PR_SET_PDEATHSIG = 1


def become(user: str | None) -> None:
    """Run as this user from now on, if started as root. Raises KeyError for a user that does not exist."""
    if user is None or os.geteuid() != 0:
        return
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
