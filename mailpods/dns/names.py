"""What DNS says of a client: its name, and whether the names that it gives exist."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Literal

from mailpods.dns.resolver import NoAnswer, Resolver

Known = Literal["unasked", "yes", "no", "unsure"]  # unsure: DNS gave no answer


class Names:
    """`dns` gives the resolver of the directory as it is now, which remembers answers while they hold."""

    def __init__(self, dns: Callable[[], Resolver]) -> None:
        self._dns = dns

    async def client(self, ip: str) -> tuple[Known, str]:
        """Whether an address has a name, and that name if it leads back to the address, or else ""."""
        resolver = self._dns()
        try:
            names = await resolver.names(ip)
            for name in names:
                if any(ip_address(ip) == ip_address(found) for found in await resolver.addresses(name)):
                    return "yes", name
        except NoAnswer:
            return "unsure", ""
        return ("yes" if names else "no"), ""

    async def texts(self, name: str) -> list[str]:
        """Its TXT records. Raises NoAnswer where DNS is silent."""
        return await self._dns().texts(name)

    async def exists(self, name: str) -> Known:
        """Whether a name takes mail or has an address. An address literal does."""
        if name.startswith("["):
            return "yes"
        try:
            return "yes" if await self._dns().exists(name) else "no"
        except NoAnswer:
            return "unsure"
