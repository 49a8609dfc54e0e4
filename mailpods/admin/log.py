"""How programs say what happens: one event, one line."""

import os
from collections.abc import Callable


def logger(program: str) -> Callable[[str], None]:
    """Writes events to stderr under the program's name, each line in one write.

    So no two processes' lines mix, and none waits in a buffer.
    """

    def log(text: str) -> None:
        os.write(2, f"{program}: {text}\n".encode("utf-8", "backslashreplace"))

    return log
