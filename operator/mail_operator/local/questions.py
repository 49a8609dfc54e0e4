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
