"""When what was put off is tried again, and when it is given up."""

import random

LIFETIME = 5 * 86400.0  # seconds, RFC 5321 §4.5.4.1
WARNED_AFTER = 4 * 3600.0  # seconds, until a sender hears that a message waits (RFC 3461 §5.2.5)
FIRST_RETRY, LONGEST_RETRY = 30.0, 3600.0  # seconds
PARKED_SECONDS = 900.0  # that a message waits behind a fault of ours


def backoff(attempts: int) -> float:
    """Seconds until the next attempt: twice as long each time, with jitter, an hour at most."""
    return float(min(FIRST_RETRY * 2 ** min(attempts, 20), LONGEST_RETRY) * random.uniform(0.8, 1.2))
