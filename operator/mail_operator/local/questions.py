"""What both command lines ask of smtp pods, and how they show the answers."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mail_operator.local.table import queue_details, queue_table

# (path, method, query) -> (pod, what it answers) for each smtp pod. Raises CommandError.
Ask = Callable[[str, str, Mapping[str, str]], Iterable[tuple[str, Any]]]


class CommandError(Exception):
    """What keeps a command from doing its work; the message says what to do."""


def add_queue(parser: argparse.ArgumentParser) -> None:
    """The arguments of `queue`."""
    parser.add_argument("action", nargs="?", choices=("list", "show", "retry", "delete"), default="list")
    for key in ("id", "address", "domain"):
        parser.add_argument(f"--{key}", default=None, help=f"only messages of this {key}")


def add_explain(parser: argparse.ArgumentParser) -> None:
    """The arguments of `explain`."""
    parser.add_argument("address", nargs="?", help="where does this address lead?")
    parser.add_argument("--to", dest="to", metavar="ADDRESS", help="the same, beside the following")
    parser.add_argument(
        "--from", dest="from_", metavar="SENDER", help="what becomes of a message of this sender"
    )
    parser.add_argument("--client", metavar="IP", help="from a client with this address")
    parser.add_argument("--helo", metavar="NAME", help="that calls itself so")
    parser.add_argument("--login", metavar="ACCOUNT", help="and logged in, e.g. as 7/info")
    parser.add_argument("--port", choices=("smtp", "submission"), help="on this port (default: smtp)")


def explanation(options: argparse.Namespace) -> Mapping[str, str]:
    """The query for /explain. Raises CommandError."""
    address = options.address or options.to
    if not address or (options.address and options.to):
        raise CommandError("say one address, or --to")
    given = {key: getattr(options, key) for key in ("client", "helo", "login", "port")}
    given |= {"address": address, "from": options.from_}
    return {key: value for key, value in given.items() if value is not None}


def queue(options: argparse.Namespace, ask: Ask) -> None:
    """List, show, retry or delete what is queued. Raises CommandError."""
    given = {"id": options.id, "address": options.address, "domain": options.domain}
    which = {key: value for key, value in given.items() if value is not None}
    if options.action != "list" and not any(which.values()):
        raise CommandError(f"say what to {options.action}: --id, --address or --domain")
    if options.action in ("list", "show"):
        waiting = [(pod, m) for pod, messages in ask("/queue", "GET", which) for m in messages]
        print("\n".join(queue_table(waiting) if options.action == "list" else queue_details(waiting)))
        return
    path, method = ("/queue/retry", "POST") if options.action == "retry" else ("/queue", "DELETE")
    for pod, answer in ask(path, method, which):
        print(f"{pod}: {json.dumps(answer)}")
