"""What the queue's port answers those who may know of mail: what waits, and changes of it by people."""

import asyncio
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mailpods.admin.server import Request, Response
from mailpods.bulk import returned, suppressions
from mailpods.bulk.returned import Returned
from mailpods.delivery.destinations.mx import Domain
from mailpods.delivery.destinations.shard import shard
from mailpods.delivery.outcomes.tls_reports import TlsReports
from mailpods.directory.reader import DirectoryReader, NotLoaded
from mailpods.directory.records import AccountId, Address, DomainName
from mailpods.dns.resolver import Resolvers
from mailpods.message.srs import Srs
from mailpods.routing.router import Routed, Router
from mailpods.rules.explain import explain
from mailpods.spool import transfer
from mailpods.spool.message import Event, MessageId
from mailpods.spool.view import QueueView


class Queue:
    """The spools of a pod. `stopping` says whether nothing more may come in."""

    def __init__(
        self, spool: Path, reader: DirectoryReader, bulk: bool, key: str | None, stopping: Callable[[], bool]
    ) -> None:
        self._spool, self._reader, self._bulk, self._key = spool, reader, bulk, key
        self._stopping = stopping
        self._dns = Resolvers(reader)
        self._router = Router(reader, Srs(key) if key else None)
        self.suppressions = suppressions.Routes(spool, key, self.peers)

    def routes(self) -> Mapping[str, Any]:
        """By method and path."""
        bulk = {**self.suppressions.all(), f"POST {returned.PATH}": self._returned} if self._bulk else {}
        return {
            "GET /explain": self._explain,
            "GET /queue": self._list,
            "GET /queue/count": lambda r: self._change(QueueView.count, r.query),
            "POST /queue/retry": lambda r: self._change(QueueView.retry, r.query),
            "POST /queue/hold": lambda r: self._change(QueueView.hold, r.query),
            "POST /queue/release": lambda r: self._change(QueueView.release, r.query),
            "POST /queue/divert": self._divert,
            "DELETE /queue": lambda r: self._change(QueueView.delete, r.query),
            "GET /events": self._events,
            "GET /tls-reports": self._tls_reports,
            f"POST {transfer.PATH}": self._adopt,
            **bulk,
        }

    def views(self) -> list[QueueView]:
        """One for each spool."""
        folders = (path for path in self._spool.iterdir() if (path / "queue.db").exists())
        return [QueueView(folder) for folder in sorted(folders)]

    def peers(self) -> list[str]:
        """The other pods of this kind."""
        self._reader.refresh()
        server, ourselves = self._reader.server, os.environ.get("POD_NAME", "") + "."
        everybody = server.peers if server else ()
        if self._bulk:
            everybody = server.bulk.peers if server and server.bulk else ()
        return [peer for peer in everybody if not peer.startswith(ourselves)]

    def hand_over(self, seconds: float, log: Callable[[str], None]) -> None:
        """Move what waits to other pods: the spools are nobody's now."""
        peers = self.peers()
        if self._key and peers:
            transfer.hand_over(self.views(), peers, self._key, seconds, log)

    def _list(self, request: Request) -> Response:
        self._reader.refresh()
        try:
            found = [view.queue(request.query, destination_of=self._destination_of) for view in self.views()]
        except ValueError as error:
            return Response.refused(str(error))
        return Response.json([each for of_view in found for each in of_view])

    def _destination_of(self, address: str) -> str:
        """The name of a recipient's destination: the shard of a mailbox here, or a domain elsewhere."""
        account: str | None = address
        if "@" in address:
            outcome = self._router.route(Address(address), may_relay=True)
            account = next(iter(outcome.accounts), None) if isinstance(outcome, Routed) else None
        try:
            found = self._reader.account(AccountId(account)) if account else None
        except NotLoaded:
            found = None
        return (
            shard(found.shard).name if found else Domain(DomainName(address.rpartition("@")[2].lower())).name
        )

    def _change(
        self, change: Callable[[QueueView, Mapping[str, str]], int], which: Mapping[str, str]
    ) -> Response:
        try:
            count = sum(change(view, which) for view in self.views())
        except ValueError as error:
            return Response.refused(str(error))
        return Response.json({"recipients": count})

    def _events(self, request: Request) -> Response:
        """Events behind those that somebody has: `after` is worker:number,… as the answer's `next` says."""
        try:
            known = dict(pair.split(":") for pair in request.query.get("after", "").split(",") if pair)
            limit = min(int(request.query.get("limit", "1000")), 10_000)
            found = {v.name: v.events(int(known.get(v.name, "0")), limit) for v in self.views()}
        except ValueError:
            return Response.refused("say ?after=worker:number,… as an answer gave it, and ?limit=")
        known |= {name: str(events[-1]["number"]) for name, events in found.items() if events}
        after = ",".join(f"{name}:{number}" for name, number in sorted(known.items()))
        return Response.json({"events": [e for events in found.values() for e in events], "next": after})

    def _returned(self, request: Request) -> Response:
        """A bounce or a complaint that reached an smtp pod."""
        views = self.views()
        if not request.bears(self._key) or not views:
            return Response.text("this takes the installation's own key, and a spool", 403)
        try:
            found = Returned(**json.loads(request.body))
        except (TypeError, ValueError) as error:
            return Response.text(f"not understood: {error!r}", 400)
        self.suppressions.note(found)
        now = time.time()
        event = Event(
            now, MessageId(""), f"@{found.domain}", found.recipient, "", found.kind, found.class_, found.reply
        )
        views[0].add_event(event)
        return Response.json({"noted": True})

    def _tls_reports(self, request: Request) -> Response:
        """Reports of RFC 8460 on a day, of this pod: ?day=YYYY-MM-DD, yesterday if none is said."""
        yesterday = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 86400))
        self._reader.refresh()
        host = self._reader.server.hostname if self._reader.server else ""
        reports = TlsReports(self._spool).of_day(request.query.get("day", yesterday), host)
        return Response.json(reports)

    def _divert(self, request: Request) -> Response:
        which = dict(request.query)
        to = which.pop("to", "").lower()
        local, _, domain = to.rpartition("@")
        if not (local and domain) or not to.isprintable() or " " in to:
            return Response.refused("say where to: ?to=local@domain")
        return self._change(lambda view, those: view.divert(those, to), which)

    def _adopt(self, request: Request) -> Response:
        if self._stopping() or not (views := self.views()):
            return Response.refused("stopping, or without a spool yet", 503)
        return transfer.adopt(request, self._key, views[0])

    def _explain(self, request: Request) -> Response:
        self._reader.refresh()
        try:
            return Response.json(asyncio.run(explain(self._reader, self._dns, self._router, request.query)))
        except ValueError as error:
            return Response.refused(str(error))
