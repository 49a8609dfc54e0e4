"""The data folder: what outlives a run. Mail lies in volumes/, what compile() decided once in state.json.

state.json   order of age, allocations, generated Secrets, password hashes, what was confirmed
good.json    the manifests in force, for a start at which some of them are broken
volumes/     the pods' persistent volumes
run/ logs/   the pods' files while they run, and what they said
"""

import base64
import fcntl
import json
import os
import pwd
import secrets
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mail_operator.engine.runtime import FatalError
from mail_operator.local.files import make_folder, write_atomically

_LONGEST_SOCKET = "/state/run/token-login/imap-urlauth"


class DataFolderError(FatalError):
    """The data folder cannot be used; the message says why, and what to do."""


def default_folder() -> Path:
    """Where data lies if nothing is said: a system's place for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/mailpods")
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "mailpods"


def require_access(folder: Path, user: str | None) -> None:
    """Raises DataFolderError if the programs, which become `user`, could not enter the folder."""
    if user is None:
        return
    entry = pwd.getpwnam(user)
    for parent in reversed((folder, *folder.parents)):
        # By another process: the kernel alone knows what modes, groups and access lists come to.
        enter = ["test", "-x", str(parent)]
        if subprocess.run(enter, user=entry.pw_uid, group=entry.pw_gid, extra_groups=()).returncode:
            raise DataFolderError(
                f"{folder}: the user {user}, as whom the mail programs run, may not enter {parent}: "
                f"choose a folder with --data that everybody may pass through to, or `chmod o+x {parent}`"
            )


def require_short_paths(folder: Path, pods: Iterable[str]) -> None:
    """Raises DataFolderError if Dovecot's sockets, which lie in the pods' folders, had too long a name.

    The kernel takes 107 bytes for the path of a socket (unix(7)).
    """
    for name in pods:
        over = len(os.fsencode(folder / "run" / "pods" / name)) + len(_LONGEST_SOCKET) - 107
        if over > 0:
            raise DataFolderError(
                f"{folder}: too long by {over} bytes for the sockets that lie below it: "
                "choose a shorter folder with --data"
            )


@dataclass
class State:
    """The content of state.json. References are written `Kind namespace/name`."""

    ages: dict[str, int] = field(default_factory=dict)  # order of first sight
    allocations: dict[str, dict[str, Any]] = field(default_factory=dict)  # patches of spec
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)  # namespace/name -> key -> base64
    hashes: dict[str, tuple[str, str]] = field(default_factory=dict)  # namespace/name -> (digest, hash)
    hash_key: str = ""
    confirmed: str = ""  # the token of the last large removal that was confirmed
    # Domains that are held until their mail is gone: the manifest, and the last status.
    held: dict[str, dict[str, Any]] = field(default_factory=dict)

    def age(self, ref: str) -> int:
        """The object's place in the order of first sight."""
        if ref not in self.ages:
            # The last one is the youngest: dictionaries keep their order, in JSON too.
            self.ages[ref] = next(reversed(self.ages.values()), 0) + 1
        return self.ages[ref]

    def secret(self, name: str) -> dict[str, bytes] | None:
        """A Secret that was generated before."""
        values = self.secrets.get(name)
        return None if values is None else {key: base64.b64decode(v) for key, v in values.items()}

    def keep_secret(self, name: str, values: dict[str, bytes]) -> None:
        """Keep a generated Secret."""
        self.secrets[name] = {key: base64.b64encode(v).decode() for key, v in values.items()}


class DataFolder:
    """The folder, locked against a second runner. Raises DataFolderError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # Others may pass through, to the volumes that belong to the mail user; none may look.
            make_folder(path, mode=0o711)
            make_folder(path / "run", mode=0o711)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataFolderError(f"{path}: {error.strerror}; choose a folder with --data") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderError(
                f"{path}: another `mailpods up` uses it; stop that one, or choose a folder with --data"
            ) from error
        self.state = self._read()
        self._written = ""

    def _read(self) -> State:
        file = self.path / "state.json"
        try:
            known = {each.name for each in fields(State)}  # what another version kept besides is left out
            state = State(**{k: v for k, v in json.loads(file.read_bytes()).items() if k in known})
        except FileNotFoundError:
            state = State()
        except (ValueError, TypeError, AttributeError) as error:
            raise DataFolderError(f"{file}: {error}; restore it, or move it away to begin anew") from error
        state.hash_key = state.hash_key or secrets.token_hex(32)
        return state

    def save(self) -> None:
        """Write the state if it changed; on return it is on disk."""
        text = json.dumps(vars(self.state), sort_keys=True)
        if text != self._written:
            write_atomically(self.path / "state.json", text.encode())
            self._written = text

    def last_good(self) -> dict[str, Any]:
        """The manifests of a former run; {} where there are none that can be read."""
        try:
            found: dict[str, Any] = json.loads((self.path / "good.json").read_bytes())
            return found
        except (OSError, ValueError):
            return {}

    def keep_last_good(self, manifests: dict[str, dict[str, Any]]) -> None:
        """Write them, if they changed. Dates become texts, as the API server has them."""
        write_atomically(self.path / "good.json", json.dumps(manifests, default=str).encode())

    def close(self) -> None:
        """Let others use it."""
        os.close(self._lock)
