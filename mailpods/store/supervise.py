"""One Dovecot: started, started again when it ends, told of new files, and ended with this program."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mailpods.admin.privileges import adopt_orphans, die_with_parent
from mailpods.directory.records import AccountId
from mailpods.store.accounts import Version

RESTART_SECONDS = 1.0  # after it ended by itself, and that its sessions have for their end
STOP_SECONDS = 15.0
SESSIONS_SECONDS = 5.0  # that sessions have after it, before they are killed
DOVEADM_SECONDS = 10.0


class Dovecot:
    """`command` starts it; its folders and its configuration are below `state`."""

    def __init__(
        self,
        command: Sequence[str],
        state: Path,
        ready: str,
        started: Callable[[], None],
        log: Callable[[str], None],
    ) -> None:
        """`ready`: the socket below its base_dir that is there once it takes logins. Raises OSError,
        CalledProcessError where there is no Dovecot of a known version."""
        self._command = command
        self._state = state
        self._ready = state / "run" / ready
        self._started, self._log = started, log
        self._process: subprocess.Popen[bytes] | None = None
        self._start_at = 0.0
        adopt_orphans()
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True).stdout
        numbers = re.match(r"(\d+)\.(\d+)(\.\d+)?", said)
        if not numbers:
            raise OSError(f"{command[0]} --version says {said!r}, which is no version")
        self.full_version = numbers.group(0)  # as 2.4 wants it said, e.g. 2.4.1
        self.version: Version = (2, 4) if (int(numbers[1]), int(numbers[2])) >= (2, 4) else (2, 3)

    @property
    def configuration(self) -> Path:
        """Its main file."""
        return self._state / "dovecot.conf"

    def is_up(self) -> bool:
        """Whether it runs and takes logins."""
        return self._running() is not None and self._ready.exists()

    def keep_running(self) -> None:
        """Start it if it does not run. Call it a few times a second; it may take RESTART_SECONDS."""
        if self._running():
            return
        now = time.monotonic()
        if self._process is not None:
            self._log(f"Dovecot ended with status {self._process.returncode}; it is started again")
            self._process = None
            self._start_at = now + RESTART_SECONDS
            _end_children(RESTART_SECONDS)
        if now < self._start_at:
            return
        for left in (self._state / "run" / "master.pid", self._ready):
            left.unlink(missing_ok=True)
        command = [*self._command, "-F", "-c", str(self.configuration)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        self._started()

    def reload(self) -> None:
        """Sessions stay as they are; new ones follow the new files."""
        if running := self._running():
            running.send_signal(signal.SIGHUP)

    def kick(self, accounts: Collection[AccountId]) -> None:
        """End the sessions of these accounts."""
        users = {line.partition("\t")[0] for line in self._doveadm("-f", "tab", "who").splitlines()}
        for account in accounts:
            if account in users:
                self._doveadm("kick", account)

    def _doveadm(self, *words: str) -> str:
        doveadm = [*self._command[:-1], re.sub(r"dovecot$", "doveadm", self._command[-1])]
        command = [*doveadm, "-c", str(self.configuration), *words]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=DOVEADM_SECONDS, check=False
            ).stdout
        except subprocess.TimeoutExpired:
            self._log(f"Dovecot did not answer in {DOVEADM_SECONDS:.0f} s: doveadm {' '.join(words)}")
            return ""

    def stop(self) -> None:
        """Returns when it has ended."""
        if running := self._running():
            running.terminate()
            try:
                running.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
        _end_children(SESSIONS_SECONDS)

    def _running(self) -> "subprocess.Popen[bytes] | None":
        return self._process if self._process and self._process.poll() is None else None


def _children() -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            if int(file.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(file.parent.name))
    return found


def _end_children(seconds: float) -> None:
    """End what a Dovecot that has ended left: sessions, as they outlive a reload, outlive it, too."""
    kill_at = time.monotonic() + seconds
    told: set[int] = set()
    while children := _children():
        late = time.monotonic() >= kill_at
        for pid in children:
            if late or pid not in told:
                os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
                told.add(pid)
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.02)
