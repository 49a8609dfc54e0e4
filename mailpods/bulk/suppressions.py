"""The suppression list as people and other pods of the bulk pool reach it, and the click that adds to it."""

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mailpods.admin.log import logger
from mailpods.admin.peers import Failures
from mailpods.admin.peers import ask as ask_peer
from mailpods.admin.server import Request, Response
from mailpods.bulk.returned import Returned
from mailpods.bulk.suppression import Suppressed, Suppressions
from mailpods.message.verp import read_token

log = logger("smtp")
PATH = "/suppressions"
TOLD_SECONDS = 2.0  # between looks at what the other pods do not know
_ANSWER_SECONDS = 10.0


class Routes:
    """For the queue's port, whose threads open the list each for themselves."""

    def __init__(self, folder: Path, key: str | None, peers: Callable[[], Sequence[str]]) -> None:
        self._folder, self._key, self._peers = folder, key, peers

    def all(self) -> Mapping[str, Callable[[Request], Response]]:
        """By method and path."""
        return {f"GET {PATH}": self._list, f"POST {PATH}": self._add, f"DELETE {PATH}": self._remove}

    def _list(self, request: Request) -> Response:
        query = request.query
        entries = Suppressions(self._folder).entries(query.get("domain"), query.get("address"))
        if request.bears(self._key):
            return Response.json([entry.as_json() for entry in entries])
        return Response.json([{**entry.as_json(), "until": entry.until} for entry in entries])

    def _add(self, request: Request) -> Response:
        """One by query, or many in the body, from another pod."""
        there, query = Suppressions(self._folder), request.query
        if request.bears(self._key):
            given = [Suppressed(**each) for each in json.loads(request.body)]
            for each in given:
                there.add(each.domain, each.address, each.reason, each.since, told=True)
            return Response.json({"added": len(given)})
        if not (query.get("domain") and "@" in query.get("address", "")):
            return Response.refused("say ?domain= (the sender's) and ?address=")
        there.add(query["domain"], query["address"], query.get("reason") or "by an administrator")
        return Response.json({"added": 1})

    def _remove(self, request: Request) -> Response:
        query = request.query
        if not (query.get("domain") and query.get("address")):
            return Response.refused("say ?domain= (the sender's) and ?address=")
        removed = Suppressions(self._folder).remove(query["domain"], query["address"])
        if not request.bears(self._key):
            for peer in self._peers():
                ask(peer, "DELETE", self._key, None, f"?domain={query['domain']}&address={query['address']}")
        return Response.json({"removed": int(removed)})

    def note(self, found: Returned) -> None:
        """Something came back of a mailing."""
        if found.final:
            reason = f"bounce: {found.reply}" if found.kind == "bounced" else found.reply
            Suppressions(self._folder).add(found.domain, found.recipient, reason)

    def unsubscribe(self, request: Request) -> Response:
        """What a mail program POSTs for its user (RFC 8058); a person who follows the link is asked first."""
        found = read_token(self._key, request.query.get("t", "")) if self._key else None
        if found is None:
            return Response.text("this link is none of ours", 404)
        Suppressions(self._folder).add(*found, "unsubscribed")
        return Response.text(f"{found[1]} gets no more mailings of {found[0]}")

    def ask_first(self, request: Request) -> Response:
        """A page with one button: programs that only look at links must not unsubscribe anybody."""
        found = read_token(self._key, request.query.get("t", "")) if self._key else None
        if found is None:
            return Response.text("this link is none of ours", 404)
        return Response(body=_PAGE.format(domain=found[0]).encode(), content_type="text/html; charset=utf-8")


_PAGE = """<!doctype html><html lang="en"><meta name="viewport" content="width=device-width">
<title>Unsubscribe</title><h1>No more mailings of {domain}?</h1>
<form method="post"><button>Unsubscribe</button></form></html>
"""


def ask(
    peer: str, method: str, key: str | None, entries: Iterable[Suppressed] | None, query: str = ""
) -> list[dict[str, Any]] | dict[str, Any] | None:
    """What another pod answers; None if it does not."""
    body = json.dumps([entry.as_json() for entry in entries]).encode() if entries is not None else None
    try:
        found: list[dict[str, Any]] | dict[str, Any] = json.loads(
            ask_peer(peer, method, f"{PATH}{query}", key, body, _ANSWER_SECONDS)
        )
    except Failures:
        return None
    return found


def share(folder: Path, key: str, peers: Callable[[], Sequence[str]], stopping: threading.Event) -> None:
    """Learn once what another pod knows, and tell all others what is new here, until the program ends."""
    there, learnt = Suppressions(folder), False
    while not stopping.wait(TOLD_SECONDS):
        others = peers()
        try:
            learnt = learnt or _learn(there, others, key)
            new = there.untold()
            if new and all(ask(peer, "POST", key, new) is not None for peer in others):
                there.note_told(new)
        except sqlite3.Error as error:  # the disk is full, say: the next look may find it better
            log(f"suppressions are not exchanged now: {error}")


def _learn(there: Suppressions, others: Sequence[str], key: str) -> bool:
    """All that one of the other pods knows; False if none answers."""
    for peer in others:
        if isinstance(known := ask(peer, "GET", key, None), list):
            for each in known:
                there.add(**each, told=True)
            return True
    return False
