"""Writes files so that a reader sees the old one or the new one, and a crash loses neither."""

import os
from pathlib import Path


def write_atomically(path: Path, data: bytes, mode: int = 0o600, owner: int | None = None) -> bool:
    """Replace `path` if its content differs; `owner` is a user id. Returns whether it was written."""
    try:
        if path.read_bytes() == data:
            return False
    except FileNotFoundError:
        pass
    new = path.with_name(f".{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        if owner is not None:
            os.fchown(file.fileno(), owner, -1)
        os.fsync(file.fileno())
    os.replace(new, path)
    return True


def make_folder(path: Path, owner: int | None = None, mode: int = 0o700) -> Path:
    """The folder, made and given to `owner` (a user id) where needed."""
    for parent in reversed(path.parents):
        parent.mkdir(mode=0o711, exist_ok=True)  # other users of ours go through it, and nobody lists it
    path.mkdir(mode=mode, exist_ok=True)
    if owner is not None and path.stat().st_uid != owner:
        os.chown(path, owner, -1)
    return path
