"""The command line `mailpods`; that of `kubectl mailpods` is mail_operator/plugin."""

import argparse
import asyncio
import json
import os
import signal
import sys
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from mail_operator.compiler.compiling import compile
from mail_operator.compiler.plan import wire
from mail_operator.compiler.status import hindrance_of, ready_of
from mail_operator.local import checking, demo, questions
from mail_operator.local.asking import Answer, ask_json
from mail_operator.local.ports import LOOPBACK, Ports, PortTaken, addresses
from mail_operator.local.questions import Ask, CommandError
from mail_operator.local.runner import Runner
from mail_operator.local.state import DataFolder, DataFolderError, default_folder, require_access
from mail_operator.local.table import render_table

MAIL_USER = "mailpods"  # whom programs become when root starts them; `./run` adds it


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 1 for findings and failures, 2 for wrong use."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (CommandError, DataFolderError, PortTaken) as error:
        print(f"mailpods: {error}", file=sys.stderr)
        return 1
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mailpods", description="Mail from manifests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    up = command("up", _up, "Run manifests as processes on this machine; edits act at once, Ctrl-C stops.")
    check = command(
        "check",
        lambda options: checking.check(options.paths),
        "Say what is wrong in manifests: file, line, field, reason.",
    )
    render = command("render", _render, "Print the Kubernetes objects that manifests lead to.")
    for sub in (up, check, render):
        sub.add_argument("paths", nargs="+", type=Path, metavar="DIR|FILE")
    up.add_argument(
        "--bind",
        action="append",
        metavar="ADDRESS",
        help=f"address to listen on, as often as there are some (default: {LOOPBACK})",
    )
    up.add_argument(
        "--metrics-bind",
        default=LOOPBACK,
        metavar="ADDRESS",
        help="address at which metrics are read (default: %(default)s)",
    )
    ports = up.add_mutually_exclusive_group()
    ports.add_argument(
        "--port-offset",
        type=int,
        default=10000,
        metavar="N",
        help="added to the standard port numbers (default: %(default)s; 0 for the real ones)",
    )
    ports.add_argument("--free-ports", action="store_true", help="listen on any free ports")

    quick = command("demo", _demo, "Run manifests: send and read mail, say what happened, stop.")
    quick.add_argument("paths", nargs=1, metavar="DIR")
    explain = command(
        "explain", _explain, "Say where an address leads, or what becomes of a message, and why."
    )
    questions.add_explain(explain)
    queue = command("queue", _queue, "List, show, retry, hold, release, divert or delete what is queued.")
    questions.add_queue(queue)
    suppressed = command(
        "suppressions", _suppressions, "Show or change whom the bulk pool sends nothing any more."
    )
    questions.add_suppressions(suppressed)
    status = command("status", _status, "Show the objects and whether they are ready.")
    for sub in (up, explain, queue, suppressed, status):
        sub.add_argument(
            "--data", type=Path, default=default_folder(), help="data folder (default: %(default)s)"
        )
    return parser


def _up(options: argparse.Namespace) -> int:
    checking.require(options.paths)
    runners: list[Runner] = []
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True
        for each in runners:
            each.stop()

    # SIGHUP, too: who closes the terminal wants no processes that nobody looks after.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    data = DataFolder(options.data.absolute())
    require_access(data.path, _mail_user())
    bind = ",".join(addresses(options.bind or [LOOPBACK]))
    offset = None if options.free_ports else options.port_offset
    ports = Ports(bind, offset, addresses([options.metrics_bind])[0])
    shown = ""

    def show() -> None:
        nonlocal shown
        table = render_table(runner.statuses, runner.observed, ports)
        if runner.statuses and table != shown:
            print(table, flush=True)
            shown = table

    runner = Runner(options.paths, data, ports, _mail_user(), show)
    runner.observed.refresh()
    checking.require_manifests(runner.observed)
    runners.append(runner)
    try:
        if not stopping:
            asyncio.run(runner.run())
    finally:
        print("mailpods: stopping", flush=True)
        data.close()
    return 0


def _demo(options: argparse.Namespace) -> int:
    return demo.main(options.paths, _mail_user())


def _mail_user() -> str | None:
    return MAIL_USER if os.geteuid() == 0 else None


def _render(options: argparse.Namespace) -> int:
    observed = checking.look(options.paths)
    plan = compile(observed.snapshot)
    for problem in observed.problems:
        print(problem, file=sys.stderr)
    yaml.dump_all(map(wire, plan.objects), sys.stdout, Dumper=yaml.CSafeDumper, sort_keys=False)
    return 1 if observed.problems else 0


def _running(data: Path) -> dict[str, Any]:
    try:
        running: dict[str, Any] = json.loads((data / "run" / "status.json").read_text())
    except FileNotFoundError:
        raise CommandError(f"{data}: nothing runs here; start `mailpods up`, or name its --data") from None
    return running


def _words(failure: str) -> str:
    """Why something failed, as people read it."""
    try:
        return str(json.loads(failure)["message"])
    except (ValueError, TypeError, KeyError):
        return failure.strip()


def _asker(data: Path, component: str = "") -> Ask:
    def ask(path: str, method: str, query: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        places = _running(data)["queue"]
        asked = {container: place for container, place in places.items() if component in container}
        if not asked:
            pod = f"{component.strip('-') or 'smtp'} pod"
            raise CommandError(f"no {pod} runs here, so nobody was asked: `mailpods status` says more")
        for container, endpoint in asked.items():
            page = f"{path}?{urllib.parse.urlencode(query)}"
            try:
                yield container.partition("/")[0], ask_json(endpoint, page, method, seconds=10)
            except Answer as error:
                raise CommandError(f"{container}: {_words(str(error))}") from error
            except OSError as error:
                raise CommandError(f"{container}: {error}; is `mailpods up` running?") from error

    return ask


def _explain(options: argparse.Namespace) -> int:
    for _, lines in _asker(options.data)("/explain", "GET", questions.explanation(options)):
        print("\n".join(lines))
        return 0
    raise CommandError("no smtp pod runs: start `mailpods up`")


def _queue(options: argparse.Namespace) -> int:
    questions.queue(options, _asker(options.data))
    return 0


def _suppressions(options: argparse.Namespace) -> int:
    questions.suppressions(options, _asker(options.data, "-bulk-"))
    return 0


def _status(options: argparse.Namespace) -> int:
    for row in _running(options.data)["objects"]:
        ready = ready_of(row["status"])
        text = f"{ready['status']} {ready['reason']}: {ready['message']}" if ready else "Unknown"
        why = hindrance_of(row["status"])
        if ready and why not in ("", f"{ready['reason']}: {ready['message']}"):
            text += f" {why}"
        print(f"{row['kind']} {row['namespace']}/{row['name']}: {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
