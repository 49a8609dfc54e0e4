"""Writes the files that Dovecot reads: whole, or not at all."""

import os
from pathlib import Path


def write(path: Path, data: bytes) -> bool:
    """Replace the file's content atomically. Returns whether it differed. Raises OSError."""
    try:
        if path.read_bytes() == data:
            return False
    except FileNotFoundError:
        pass
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
    os.rename(temporary, path)
    return True
