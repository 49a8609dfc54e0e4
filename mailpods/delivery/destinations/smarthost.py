"""Servers that take mail for others: the smarthost, an account's login there, and those of delivery rules."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import ClassVar

from mailpods.delivery.client.connection import Connection, Target
from mailpods.delivery.destinations.base import STORE_CONNECTIONS, Destination, Network
from mailpods.directory import records
from mailpods.directory.endpoints import resolve
from mailpods.directory.records import AccountId


@dataclass(frozen=True)
class Smarthost(Destination):
    """The server that takes all mail for others. `account`: who logs in there by itself (R-004-10)."""

    account: AccountId | None = None
    label: ClassVar[str] = "smarthost"
    connections: ClassVar[int] = STORE_CONNECTIONS

    @property
    def is_held_in_memory(self) -> bool:  # type: ignore[override]
        return self.account is None

    @property
    def name(self) -> str:
        return f"smarthost {self.account}" if self.account else "smarthost"

    @property
    def title(self) -> str:
        return "smarthost"

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        to = network.server.smarthost
        if to is None:
            raise LookupError("no smarthost is set any more")
        own = network.reader.account(self.account) if self.account else None
        if own and own.smarthost:
            to = replace(to, username=own.smarthost[0], password=own.smarthost[1])
        return await _over(to, network)


@dataclass(frozen=True)
class Rule(Destination):
    """The host that a delivery rule names."""

    rule: str
    label: ClassVar[str] = "rule"
    connections: ClassVar[int] = STORE_CONNECTIONS

    @property
    def name(self) -> str:
        return f"rule {self.rule}"

    async def connect(self, network: Network, avoid: Collection[str] = ()) -> Connection:
        route = next((route for route in network.server.routes if route.name == self.rule), None)
        if route is None or route.via is None:
            raise LookupError(f"the delivery rule {self.rule!r} names no host any more")
        return await _over(route.via, network)


async def _over(to: records.Smarthost, network: Network) -> Connection:
    host, port = resolve(f"{to.host}:{to.port}")
    us = network.identity
    return await Connection.open(
        Target(host, port, us.hello, False, to.tls, to.username, to.password, source=us.source)
    )
