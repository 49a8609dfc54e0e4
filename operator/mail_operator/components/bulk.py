"""bulk: the same program for mass mailings alone, with ports, spools and an address of its own."""

from mail_operator.components.component import ADMIN, DNS, MAIL_SERVERS, WORLD, Component, Container, Port
from mail_operator.components.smtp import (
    AUTHENTICATOR,
    FIELDS,
    GRACE_SECONDS,
    MOUNTS,
    TO_STORE,
    command,
    queue,
)

BULK = Component(
    name="bulk",
    containers=(
        Container(
            name="smtp",
            command=lambda at: command(at, "--workers", str(at.spec.bulk.workers), "--pool", "bulk"),
            ports=(
                Port("bulk", 4025, public=4025, admits=(WORLD,)),
                Port("bulk-submit", 4587, public=4587, admits=(WORLD,)),
                Port("bulk-submits", 1465, public=1465, admits=(WORLD,)),
                Port("unsubscribe", 8025, public=8025, admits=(WORLD,)),
                ADMIN,
                queue("bulk"),
            ),
            mounts=MOUNTS,
            memory="128Mi",
            resources=lambda at: at.spec.bulk.resources,
            fields=FIELDS,
            holds_key=True,
        ),
        AUTHENTICATOR,
    ),
    replicas=lambda at: at.spec.bulk.replicas,
    pods_service="pods",
    talks_to={"store": TO_STORE},
    reaches=(DNS, MAIL_SERVERS),
    grace_seconds=GRACE_SECONDS,
    node_selector=lambda at: at.spec.bulk.node_selector,
)
