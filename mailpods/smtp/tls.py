"""The certificate: read again when its files change, without touching the connections that exist."""

import datetime
import ssl
from collections.abc import Callable
from pathlib import Path

from mailpods.directory.certificate import UNUSABLE, problem

CERTIFICATE, KEY = "tls.crt", "tls.key"


def server_context(folder: Path) -> ssl.SSLContext:
    """A context with the folder's certificate chain and key. Raises OSError (ssl.SSLError is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context


class Certificate:
    """The newest good certificate.

    One that cannot be used (half written, key and chain not of a kind), has
    ended or is for another host changes nothing where a good one is there, and is tried again at each poll.
    """

    def __init__(
        self,
        folder: Path,
        log: Callable[[str], None],
        host: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._folder = folder
        self._log = log
        self._host = host
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._problem: str | None = None
        self._good = False  # nothing is wrong with the one that is in use
        self.context: ssl.SSLContext | None = None  # None until there is a certificate: no STARTTLS then

    def refresh(self) -> bool:
        """Load the files if they changed. Returns whether new connections get another certificate."""
        files = [self._folder / name for name in (CERTIFICATE, KEY)]
        try:
            stamp = tuple((s.st_ino, s.st_mtime_ns, s.st_size) for s in (file.stat() for file in files))
            if stamp == self._stamp:
                return False
            now = datetime.datetime.now(datetime.UTC)
            found = problem(files[0].read_bytes(), files[1].read_bytes(), self._host(), now)
            if found:
                self._tell(found.text)
                if self._good or found.reason in UNUSABLE:
                    return False
            self.context = server_context(self._folder)
        except OSError as error:
            self._tell(str(error))
            return False
        self._stamp, self._good = stamp, found is None
        if found is None:
            self._problem = None
        return True

    def _tell(self, text: str) -> None:
        if text != self._problem:
            self._problem = text
            self._log(f"{self._folder}: {text}")
