"""Where the other shards are, to which logins are passed on: their pods move."""

import socket
import time
from collections.abc import Sequence

from mailpods.directory.endpoints import resolve
from mailpods.directory.records import Service, StoreSettings
from mailpods.store.accounts import Endpoint

RESOLVE_SECONDS = 2.0  # between looks for their addresses


class Siblings:
    """The shards beside the one that is `shard`."""

    def __init__(self, shard: int) -> None:
        self._shard = shard
        self._look_at = 0.0
        self.endpoints: Sequence[dict[Service, Endpoint]] = ()  # of each shard, the own one, too
        self.trusted: tuple[str, ...] = ()  # addresses from which they pass logins on

    def look(self, settings: StoreSettings) -> bool:
        """Resolve their names, if that is due. Returns whether anything changed."""
        if len(settings.shards) < 2 or time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + RESOLVE_SECONDS
        endpoints = [{service: resolve(at) for service, at in shard.items()} for shard in settings.shards]
        hosts = {host for n, shard in enumerate(endpoints) if n != self._shard for host, _ in shard.values()}
        trusted = tuple(sorted({address for host in hosts for address in _addresses(host)}))
        if (endpoints, trusted) == (self.endpoints, self.trusted):
            return False
        self.endpoints, self.trusted = endpoints, trusted
        return True


def _addresses(host: str) -> set[str]:
    """The addresses of a host, none while it has none."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()
