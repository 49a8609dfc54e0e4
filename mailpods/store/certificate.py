"""The certificate that Dovecot serves with: a copy of the last good pair, whatever comes after it.

Dovecot reads its files when it reloads, and ends TLS for everybody where a pair is none.
"""

import datetime
from collections.abc import Callable
from pathlib import Path

from mailpods.directory.certificate import UNUSABLE, problem
from mailpods.store.files import write


class KeptPair:
    """Key and certificate of the folder `given`, in the one file `path` (PEM)."""

    def __init__(self, given: Path, path: Path, log: Callable[[str], None]) -> None:
        self._given, self.path, self._log = given, path, log
        self._stamp: tuple[int, ...] = ()
        self._problem = ""

    def refresh(self, host: str) -> bool:
        """Copy a pair that is new and good. Returns whether Dovecot must read it.

        One that has ended or is for another host is better than none.
        """
        files = [self._given / name for name in ("tls.crt", "tls.key")]
        try:
            stamp = tuple(file.stat().st_mtime_ns for file in files)
            if stamp == self._stamp:
                return False
            certificate, key = (file.read_bytes() for file in files)
        except OSError:
            return False  # none was given yet, or it is being replaced
        now = datetime.datetime.now(datetime.UTC)
        found = problem(certificate, key, host, now)
        self._tell(found.text if found else "")
        if found and (found.reason in UNUSABLE or self._is_good(host, now)):
            return False
        try:
            changed = write(self.path, key.rstrip() + b"\n" + certificate)
        except OSError as error:
            self._tell(f"{self.path}: {error.strerror}")
            return False
        self._stamp = stamp
        return changed

    def _tell(self, text: str) -> None:
        if text and text != self._problem:
            self._log(f"the certificate in {self._given}: {text}")
        self._problem = text

    def _is_good(self, host: str, now: datetime.datetime) -> bool:
        try:
            kept = self.path.read_bytes()
        except FileNotFoundError:
            return False
        return problem(kept, kept, host, now) is None
