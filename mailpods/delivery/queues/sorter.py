"""Where the recipients of a message go, by the directory as it is now."""

import time

from mailpods.bulk import returned
from mailpods.delivery.batch import DeliveryBatch
from mailpods.delivery.client.replies import Reply
from mailpods.delivery.destinations.base import NOWHERE, Destination
from mailpods.delivery.destinations.mx import Domain, Site
from mailpods.delivery.destinations.returned import RETURNED_MAIL
from mailpods.delivery.destinations.shard import shard
from mailpods.delivery.destinations.smarthost import Rule, Smarthost
from mailpods.delivery.queues.fair_queue import Tenant
from mailpods.directory.reader import DirectoryReader, NotLoaded
from mailpods.directory.records import AccountId, Address, DomainName
from mailpods.message.srs import Srs
from mailpods.message.verp import Verp
from mailpods.refusal import Refusal
from mailpods.routing import routes
from mailpods.routing.router import Router
from mailpods.spool.message import Envelope, QueuedMessage, Recipient

SITE_SECONDS = 600.0  # that a domain is taken to have the same mail servers


class Sorter:
    """`bulk`: these are the deliveries of the bulk pool. `key`: the installation's."""

    def __init__(self, reader: DirectoryReader, key: str | None, bulk: bool) -> None:
        self._reader, self._bulk = reader, bulk
        self._srs = Srs(key) if key else None
        self._verp = Verp(key) if key else None
        self._router = Router(reader, self._srs)
        self._sites: dict[DomainName, tuple[Site, float]] = {}  # and until when that is believed

    def batches(
        self, message: QueuedMessage
    ) -> tuple[list[DeliveryBatch], list[tuple[Recipient, list[str]]]]:
        """The recipients by destination; and those that are several, each with its destination."""
        batches: dict[Destination, DeliveryBatch] = {}
        several: list[tuple[Recipient, list[str]]] = []
        for recipient in message.recipients:
            try:
                refusal, targets = self._targets(recipient.address, message.envelope)
                destination = NOWHERE if refusal else self.destination(targets[0], message.envelope)
                if len(targets) > 1 and any(
                    self.destination(target, message.envelope) != destination for target in targets[1:]
                ):
                    several.append((recipient, targets))
                    continue
            except NotLoaded as error:  # it waits: it is neither unknown nor somebody else's
                refusal, targets, destination = Reply(451, f"4.3.0 {error}"), [recipient.address], NOWHERE
            batch = batches.get(destination)
            if batch is None:
                batch = batches[destination] = DeliveryBatch(message, destination)
            batch.targets[recipient.address] = targets
            if destination is NOWHERE:
                unknown = Reply(550, f"5.1.1 <{recipient.address}> is unknown here")
                batch.replies.update(dict.fromkeys(targets, refusal or unknown))
        return list(batches.values()), several

    def _targets(self, address: Address, envelope: Envelope) -> tuple[Reply | None, list[str]]:
        """Where a recipient's copies go, or why nowhere. One that holds no @ is an account already."""
        if "@" not in address or address.startswith(returned.BOUNCE):
            return None, [address]
        outcome = self._router.route(address, may_relay=True)
        if isinstance(outcome, Refusal):
            return Reply(outcome.code, f"{outcome.enhanced} {outcome.text}".strip()), [address]
        targets = [*outcome.accounts, *outcome.remote]
        pool = self._reader.server.bulk if self._reader.server else None
        if pool and self._verp and not self._bulk:
            back = returned.target_of(address, envelope.sender, pool.complaints, self._verp)
            targets += [back] if back else []
        return None, targets

    def destination(self, target: str, envelope: Envelope) -> Destination:
        """Of a copy; NOWHERE if nobody takes it."""
        if target.startswith((returned.BOUNCE, returned.COMPLAINT)):
            return RETURNED_MAIL
        if "@" not in target:
            account = self._reader.account(AccountId(target))
            return NOWHERE if account is None else shard(account.shard)
        server, domain = self._reader.server, DomainName(target.rpartition("@")[2].lower())
        # Without any way it waits: what was taken while there was one is not bounced because it is gone.
        if server is None:
            return Smarthost()
        if domain not in server.relayed:
            route = routes.of(server, envelope.sender, target)
            if route and route.via:
                return Rule(route.name)
            if not (route or server.direct):
                own = server.smarthost and server.smarthost.per_account and envelope.account
                account = self._reader.account(own) if own else None
                return Smarthost(own) if own and account and account.smarthost else Smarthost()
        site, until = self._sites.get(domain, (None, 0.0))
        return site if site and until > time.monotonic() else Domain(domain)

    def tenant(self, batch: DeliveryBatch) -> Tenant:
        """Whose message it is: who sends it to others, or who gets it."""
        account: str | None = batch.message.envelope.account
        if not batch.destination.is_remote and batch.targets:
            account = next(iter(batch.targets.values()))[0]
        return account.partition("/")[0] if account else ""

    def sender(self, batch: DeliveryBatch) -> str:
        """For another server: what is forwarded for somebody else leaves under an address of ours (SRS)."""
        envelope = batch.message.envelope
        sender = envelope.sender
        if self._bulk and self._verp and sender and len(batch.targets) == 1:
            domain = DomainName(sender.rpartition("@")[2].lower())
            return self._verp.mark(sender, batch.all_targets[0]) if self._reader.domain(domain) else sender
        if self._srs is None or not sender or envelope.account:
            return sender
        if self._reader.domain(DomainName(sender.rpartition("@")[2].lower())):
            return sender
        for recipient in batch.recipients:
            domain = DomainName(recipient.original.rpartition("@")[2].lower())
            if self._reader.domain(domain):
                return self._srs.forward(sender, domain, time.time())
        return sender

    # ---- sites

    def believe(self, domain: DomainName, site: Site) -> None:
        """These are the domain's mail servers, for a while."""
        self._sites[domain] = (site, time.monotonic() + SITE_SECONDS)

    def names_of(self, destination: Destination) -> list[str]:
        """What people look for: its own, or those of the domains that are known to have these servers."""
        if not isinstance(destination, Site):
            return [destination.name]
        return [Domain(domain).name for domain, (known, _) in self._sites.items() if known == destination]

    def forget_old(self) -> None:
        """Sites of which nobody knows whether they still hold."""
        now = time.monotonic()
        for domain in [domain for domain, (_, until) in self._sites.items() if until < now]:
            del self._sites[domain]
