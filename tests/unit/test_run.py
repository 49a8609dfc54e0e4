"""`./run` leaves nothing behind that changes the machine, however it ends, and takes people's own folders."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.helm import ROOT

OTHERS = "#!/bin/sh\nexit 101\n"


class Machine:
    """A copy of the script for a machine whose programs are stand-ins, with a policy-rc.d of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.policy = folder, folder / "policy-rc.d"
        self.script = folder / "run"
        text = (ROOT / "run").read_text()
        assert text.count("/usr/sbin/policy-rc.d") == 1
        self.script.write_text(text.replace("/usr/sbin/policy-rc.d", str(self.policy)))
        self.script.chmod(0o755)
        (folder / "bin").mkdir()
        self.program("id", "echo 0")
        self.program("dpkg-query", "exit 1")
        self.program("getent", "exit 0")

    def program(self, name: str, text: str) -> None:
        """A stand-in; what it says with echo goes where the real one writes."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """`./run ARGUMENTS`, in a process group of its own."""
        path = f"{self.folder}/bin:{os.environ['PATH']}"
        return subprocess.Popen(
            [str(self.script), *arguments],
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def wait(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_locked_apt_leaves_nothing_behind(machine: Machine) -> None:
    machine.program("apt-get", f"cp {machine.policy} {machine.folder}/seen; exit 100")
    running = machine.start("demo")
    assert running.wait(20) == 100
    assert "exit 101" in (machine.folder / "seen").read_text()
    assert not machine.policy.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_end_from_outside_leaves_nothing_behind(machine: Machine, number: signal.Signals) -> None:
    machine.program("apt-get", f"touch {machine.folder}/there; exec sleep 60")
    running = machine.start("demo")
    wait((machine.folder / "there").exists)
    assert machine.policy.exists()
    os.killpg(running.pid, number)
    assert running.wait(20) != 0
    assert not machine.policy.exists()


def test_a_policy_that_a_killed_run_left_is_known_and_others_stay(machine: Machine) -> None:
    machine.program("apt-get", f"touch {machine.folder}/there; exec sleep 60")
    running = machine.start("demo")
    wait((machine.folder / "there").exists)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait(20)
    assert machine.policy.exists()
    machine.program("apt-get", "exit 100")
    assert machine.start("demo").wait(20) == 100
    assert not machine.policy.exists()
    machine.policy.write_text(OTHERS)
    assert machine.start("demo").wait(20) == 100
    assert machine.policy.read_text() == OTHERS


@pytest.mark.parametrize("command", ["up", "demo"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "examples/quickstart"),
        (["--bind", "127.0.0.2"], "examples/quickstart --bind 127.0.0.2"),
        (["my mail"], "my mail"),
        (["my mail", "--port-offset", "0"], "my mail --port-offset 0"),
    ],
)
def test_a_folder_of_ones_own_takes_the_default_s_place(
    machine: Machine, command: str, arguments: list[str], told: str
) -> None:
    machine.program("dpkg-query", "echo installed")
    programs = machine.folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (machine.folder / "pyproject.toml").touch()
    (machine.folder / ".venv" / "ready-").touch()
    (programs / "mailpods").write_text('#!/bin/sh\necho "$@"\n')
    (programs / "mailpods").chmod(0o755)
    said, _ = machine.start(command, *arguments).communicate(timeout=20)
    assert said.splitlines()[-1] == f"{command} {told}"
