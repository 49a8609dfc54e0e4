"""The world outside of the cluster: a domain whose mail server is the node."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dns.message
import dns.query
import pytest
from aiosmtpd.controller import Controller

from tests.cluster.testcluster.places import NODE_IP
from tests.support.installation import wait
from tests.support.world import Sink

NEEDED = pytest.mark.skipif("MAILPODS_ZONES" not in os.environ, reason="there is no world outside of it")


def _is_known() -> bool:
    question = dns.message.make_query("elsewhere.test", "MX")
    return bool(dns.query.udp(question, NODE_IP, 5).answer)


@contextmanager
def elsewhere() -> Iterator[Sink]:
    """The domain elsewhere.test, whose mail server is the node."""
    zone = Path(os.environ["MAILPODS_ZONES"], "db.elsewhere.test")
    zone.write_text(
        "@ 60 IN SOA ns.elsewhere.test. root.elsewhere.test. 1 60 60 60 60\n"
        f"@ 60 IN NS ns\n@ 60 IN MX 10 mx\nns 60 IN A {NODE_IP}\nmx 60 IN A {NODE_IP}\n"
    )
    # A pod that asked too early would remember that there is no such domain.
    wait(_is_known, 120, "the DNS server does not serve the zone")
    sink = Sink(NODE_IP)
    controller = Controller(sink, hostname=NODE_IP, port=25)
    controller.start()
    try:
        yield sink
    finally:
        controller.stop()
        zone.unlink()
