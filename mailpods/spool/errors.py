"""Why the spool does not take a message, as its client is told."""


class SpoolError(Exception):
    """The message was not taken; the client is told `code` and `enhanced` (RFC 3463)."""

    code = 451
    enhanced = "4.3.0"


class SpoolFull(SpoolError):
    """No space is left on the disk."""

    code, enhanced = 452, "4.3.1"


class SpoolBusy(SpoolError):
    """More waits to be written than may, or somebody else writes for too long."""

    code, enhanced = 452, "4.3.2"


class SpoolClosed(SpoolError):
    """A sync failed, or the program ends."""
