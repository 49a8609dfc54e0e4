"""The certificate: read again when its files change, without touching the connections that exist."""

import ssl
from collections.abc import Callable
from pathlib import Path

CERTIFICATE, KEY = "tls.crt", "tls.key"


def server_context(folder: Path) -> ssl.SSLContext:
    """A context with the folder's certificate chain and key. Raises OSError (ssl.SSLError is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.load_cert_chain(folder / CERTIFICATE, folder / KEY)
    return context


class Certificate:
    """The newest good certificate. One that cannot be loaded (half written, key and chain not of a kind)
    changes nothing, and is tried again at each poll."""

    def __init__(self, folder: Path, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._log = log
        self._stamp: tuple[tuple[int, int, int], ...] = ()
        self._problem: str | None = None
        self.context: ssl.SSLContext | None = None  # None until there is a certificate: no STARTTLS then

    def refresh(self) -> bool:
        """Load the files if they changed. Returns whether new connections get another certificate."""
        try:
            stats = [(self._folder / name).stat() for name in (CERTIFICATE, KEY)]
            stamp = tuple((stat.st_ino, stat.st_mtime_ns, stat.st_size) for stat in stats)
            if stamp == self._stamp:
                return False
            self.context = server_context(self._folder)
        except OSError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._log(f"{self._folder}: {error}")
            return False
        self._stamp, self._problem = stamp, None
        return True
