"""What DNS says of the names that a Plan asks about: asked in threads, again and again, never waited for."""

import heapq
import ipaddress
import itertools
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import dns.nameserver
import dns.resolver

from mail_operator.compiler.snapshot import Answers, Question

THREADS = 4
LIFETIME_SECONDS = 10.0  # of one question, all servers and tries together
SHORTEST_SECONDS, LONGEST_SECONDS = 5.0, 300.0  # until an answer is looked up again; between, as its TTL says
SILENT_SECONDS = 30.0  # the same after no answer
FIRST_RATE, RATE = 100.0, 5.0  # questions a second: new ones, and those that were answered before
NEWS_SECONDS = 2.0  # that answers are gathered before somebody is told


class DnsProber:
    """`look()` at what is known. Threads begin with the first question, and end with the process."""

    def __init__(self, changed: Callable[[], None]) -> None:
        """`changed` is called, in another thread, when `look()` would say something else."""
        self._changed = changed
        self._lock = threading.Condition()
        self._answers: dict[Question, tuple[str, ...]] = {}
        self._wanted: set[Question] = set()
        self._scheduled: set[Question] = set()  # what is in `_due`, or being asked
        self._due: list[tuple[float, int, Question]] = []  # a heap: when, a tie-breaker
        self._order = itertools.count()
        self._slot = 0.0  # when the next question may go
        self._news = False
        self._threads: list[threading.Thread] = []

    def look(self, wanted: Collection[Question]) -> Answers:
        """The answers that are known; () is one, too: there is no such record. The others are asked for."""
        with self._lock:
            self._wanted = set(wanted)
            new = self._wanted - self._scheduled
            self._scheduled |= new
            for question in new:
                heapq.heappush(self._due, (0.0, next(self._order), question))
            for question in self._answers.keys() - self._wanted:
                del self._answers[question]
            if new and not self._threads:
                self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(THREADS)]
                self._threads.append(threading.Thread(target=self._tell, daemon=True))
                for thread in self._threads:
                    thread.start()
            self._lock.notify_all()
            return dict(self._answers)

    def _next(self) -> Question:
        with self._lock:
            while True:
                while self._due and self._due[0][2] not in self._wanted:
                    self._scheduled.discard(heapq.heappop(self._due)[2])
                now = time.monotonic()
                if not self._due:
                    self._lock.wait()
                    continue
                due, _, question = self._due[0]
                wait = max(due, self._slot) - now
                if wait > 0:
                    self._lock.wait(wait)
                    continue
                heapq.heappop(self._due)
                self._slot = now + 1 / (RATE if question in self._answers else FIRST_RATE)
                return question

    def _ask(self) -> None:
        while True:
            question = self._next()
            found, again = ask(question)
            with self._lock:
                if question not in self._wanted:
                    self._scheduled.discard(question)
                    continue
                if found is not None and self._answers.get(question) != found:
                    self._answers[question] = found
                    self._news = True
                heapq.heappush(self._due, (time.monotonic() + again, next(self._order), question))
                self._lock.notify_all()

    def _tell(self) -> None:
        while True:
            with self._lock:
                while not self._news:
                    self._lock.wait()
                self._news = False
            self._changed()
            time.sleep(NEWS_SECONDS)


def ask(question: Question) -> tuple[tuple[str, ...] | None, float]:
    """The records (hosts in lower case without a final dot), and after how many seconds to ask again.

    None where DNS gives no answer now.
    """
    try:
        answer = _resolver(question.resolvers).resolve(
            question.name, question.type, raise_on_no_answer=False, search=False, lifetime=LIFETIME_SECONDS
        )
    except dns.resolver.NXDOMAIN:
        return (), SHORTEST_SECONDS * 3
    except Exception:  # of what a zone holds anybody may be the author: no answer ends the thread
        return None, SILENT_SECONDS
    again = min(max(answer.expiration - time.time(), SHORTEST_SECONDS), LONGEST_SECONDS)
    return tuple(sorted(_text(question.type, record) for record in answer.rrset or ())), again


def _text(type_: str, record: Any) -> str:
    match type_:
        case "MX":
            return f"{record.preference} {_host(record.exchange)}"
        case "SRV":
            return f"{record.priority} {record.weight} {record.port} {_host(record.target)}"
        case "CNAME":
            return _host(record.target)
        case "TXT":
            return b"".join(record.strings).decode("utf-8", "replace")
        case _:
            return str(record.address)


def _host(name: Any) -> str:
    """A dot for the root, which null MX records name (RFC 7505)."""
    return str(name.to_text(omit_final_dot=True)).lower().removesuffix(".") or "."


def _resolver(servers: tuple[str, ...]) -> dns.resolver.Resolver:
    made = dns.resolver.Resolver(configure=not servers)
    if servers:
        made.nameservers = [_nameserver(server) for server in servers]
    return made


def _nameserver(server: str) -> dns.nameserver.Nameserver:
    """Of an address, of IPv4 with a port or without."""
    try:
        return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(server)))
    except ValueError:
        host, _, port = server.rpartition(":")
        return dns.nameserver.Do53Nameserver(host, int(port))
