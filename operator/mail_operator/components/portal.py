"""portal: pages for everybody. It is given nothing that is a secret, and reaches nobody."""

from collections.abc import Mapping

from mail_operator.components.component import (
    ADMIN,
    AUTHORITY,
    TMP,
    WORLD,
    Component,
    Container,
    Port,
)
from mail_operator.components.installation import Installation
from mailpods.directory.guide import VARIABLE, Guide


def _guide(at: Installation) -> Mapping[str, str]:
    told = at.record
    assert told is not None
    guide = Guide(at.spec.hostname, told.max_message_bytes, told.tls_required, told.bulk is not None)
    return {VARIABLE: guide.encode()}


PORTAL = Component(
    name="portal",
    containers=(
        Container(
            name="portal",
            command=lambda at: ("mailpods.portal", "--ca", "/ca/ca.crt"),
            ports=(Port("portal", 8080, public=80, admits=(WORLD,)), ADMIN),
            mounts=(AUTHORITY, TMP),
            memory="32Mi",
            resources=lambda at: at.spec.portal.resources,
            env=_guide,
        ),
    ),
    replicas=lambda at: at.spec.portal.replicas,
    exposed=False,
)
