"""What both command lines ask of smtp pods, and how they show the answers."""

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mail_operator.local.table import queue_details, queue_table, suppression_table

# (path, method, query) -> (pod, what it answers) for each smtp pod. Raises CommandError.
Ask = Callable[[str, str, Mapping[str, str]], Iterable[tuple[str, Any]]]


# What is done with what waits -> path, method, and what then holds of it.
_CHANGES = {
    "retry": ("/queue/retry", "POST", "are tried now"),
    "hold": ("/queue/hold", "POST", "are held"),
    "release": ("/queue/release", "POST", "are released"),
    "divert": ("/queue/divert", "POST", "are diverted"),
    "delete": ("/queue", "DELETE", "are deleted"),
}
_MOST_SHOWN = 1000  # recipients of one answer (mailpods.spool.view); of more, a pod is asked how many
_WHICH = {
    "id": "this message",
    "address": "what is for this recipient",
    "domain": "what is for recipients of this domain",
    "sender": "what this address, or domain, sends",
    "tenant": "what users of the domain with this number send",
}


def add_suppressions(parser: argparse.ArgumentParser) -> None:
    """The arguments of `suppressions`."""
    parser.add_argument("action", nargs="?", choices=("list", "add", "remove"), default="list")
    parser.add_argument("--domain", help="the sender's domain")
    parser.add_argument("--address", help="the recipient")
    parser.add_argument("--reason", help="of `add`, for people")


def suppressions(options: argparse.Namespace, ask: Ask) -> None:
    """List the bulk pool's suppression list, or change it. Raises CommandError."""
    given = {key: getattr(options, key) for key in ("domain", "address", "reason")}
    query = {key: value for key, value in given.items() if value is not None}
    if options.action != "list" and not {"domain", "address"} <= query.keys():
        raise CommandError(f"say whom to {options.action}: --domain (the sender's) and --address")
    method = {"list": "GET", "add": "POST", "remove": "DELETE"}[options.action]
    answers = list(ask("/suppressions", method, query))
    if options.action == "list":
        entries = {(each["domain"], each["address"]): each for _, found in answers for each in found}
        print("\n".join(suppression_table([each for _, each in sorted(entries.items())])))
        print(f"{len(entries)} addresses")
        return
    for pod, answer in answers:
        print(f"{pod}: {json.dumps(answer)}")


class CommandError(Exception):
    """What keeps a command from doing its work; the message says what to do."""


def add_queue(parser: argparse.ArgumentParser) -> None:
    """The arguments of `queue`."""
    parser.add_argument("action", nargs="?", choices=("list", "show", *_CHANGES), default="list")
    for key, text in _WHICH.items():
        parser.add_argument(f"--{key}", default=None, help=f"only {text}")
    parser.add_argument("--to", default=None, help="the address to divert to")


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
    """List, show or change what is queued. Raises CommandError."""
    which = {key: value for key in _WHICH if (value := getattr(options, key)) is not None}
    if options.action != "list" and not any(which.values()):
        raise CommandError(f"say what to {options.action}: --{', --'.join(_WHICH)}")
    if (options.to is not None) != (options.action == "divert"):
        raise CommandError("divert needs --to, and nothing else takes it")
    if options.action in ("list", "show"):
        waiting = [(pod, m) for pod, messages in ask("/queue", "GET", which) for m in messages]
        count = len(waiting)
        if count >= _MOST_SHOWN:
            count = max(count, sum(each["recipients"] for _, each in ask("/queue/count", "GET", which)))
        shown = queue_table(waiting, count) if options.action == "list" else queue_details(waiting, count)
        print("\n".join(shown))
        return
    path, method, done = _CHANGES[options.action]
    for pod, answer in ask(path, method, {**which, "to": options.to} if options.to else which):
        print(f"{pod}: {answer['recipients']} recipients {done}")
