"""As much of a ManageSieve client (RFC 5804) as tests need."""

import base64
import socket
import ssl


class ManageSieve:
    """A connection after STARTTLS."""

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext) -> None:
        self._socket = socket.create_connection(address, 10)
        self._lines = self._socket.makefile("rb")
        self.answer()
        self.ask(b"STARTTLS")
        self._lines.close()
        self._socket = context.wrap_socket(self._socket)
        self._lines = self._socket.makefile("rb")
        self.answer()

    def ask(self, command: bytes) -> list[bytes]:
        """Send a command; its answer's lines."""
        self._socket.sendall(command + b"\r\n")
        return self.answer()

    def answer(self) -> list[bytes]:
        """The lines up to OK. Fails at anything else."""
        lines = []
        while not (line := self._lines.readline()).startswith(b"OK"):
            assert line and not line.startswith((b"NO", b"BYE")), line
            lines.append(line)
        return lines

    def login(self, login: str, password: str) -> None:
        """AUTHENTICATE with PLAIN. Fails if that is refused."""
        told = base64.b64encode(f"\0{login}\0{password}".encode())
        self.ask(b'AUTHENTICATE "PLAIN" "' + told + b'"')

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()
