"""smtp: takes and delivers mail. Beside it the authenticator that SMTP AUTH asks: it alone sees hashes."""

from mail_operator.components.component import (
    ADMIN,
    API_SERVER,
    CREDENTIALS,
    DIRECTORY,
    DNS,
    MAIL_SERVERS,
    PODS,
    TLS,
    TMP,
    WORLD,
    Component,
    Container,
    Port,
    Volume,
)
from mail_operator.components.installation import Installation

AUTH = Volume("auth", "memory", "512Mi")
SPOOL = Volume("spool", "claim", claimed=lambda at: at.spec.storage.spool_size)
QUEUE = "queue"


def queue(*admitted: str) -> Port:
    """Apart from metrics and probes: a NetworkPolicy cannot tell paths from each other."""
    return Port(QUEUE, 9102, admits=(API_SERVER, *admitted))


def command(at: Installation, *options: str) -> tuple[str, ...]:
    """The smtp program's."""
    return (
        *("mailpods.programs.smtp", "--directory", "/directory", "--buckets", str(at.buckets)),
        *("--spool", "/spool", "--auth-socket", "/auth/run/auth-client", "--tls", "/tls"),
        *options,
    )


MOUNTS = (DIRECTORY, TLS, SPOOL, AUTH, TMP)
FIELDS = {"POD_NAME": "metadata.name"}  # the pod that goes gives its queue to the others
AUTHENTICATOR = Container(
    name="auth",
    command=lambda at: (
        *("mailpods.store", "--role", "auth", "--credentials", "/credentials"),
        *("--buckets", str(at.buckets), "--state", "/auth"),
    ),
    ports=(Port("auth-admin", 9101, admits=(PODS,), variable="PORT_ADMIN"),),
    admin="auth-admin",
    mounts=(CREDENTIALS, AUTH, TMP),
    memory="64Mi",
)
# Deliveries under way end, then the queue moves; what nobody takes stays on its volume.
GRACE_SECONDS = 120
TO_STORE = ("lmtp", "quota")

SMTP = Component(
    name="smtp",
    containers=(
        Container(
            name="smtp",
            command=lambda at: command(at, "--workers", str(at.spec.smtp.workers)),
            ports=(
                Port("smtp", 2525, public=25, proxy=3525, admits=(WORLD,)),
                Port("submission", 2587, public=587, proxy=3587, admits=(WORLD,)),
                Port("submissions", 2465, public=465, proxy=3465, admits=(WORLD,)),
                ADMIN,
                queue("smtp", "store"),  # from the store comes what filters of users send
            ),
            mounts=MOUNTS,
            memory="128Mi",
            resources=lambda at: at.spec.smtp.resources,
            fields=FIELDS,
            holds_key=True,
        ),
        AUTHENTICATOR,
    ),
    replicas=lambda at: at.spec.smtp.replicas,
    optional=False,
    vital=True,
    pods_service="pods",
    talks_to={"store": TO_STORE, "bulk": (QUEUE,)},  # what comes back of mailings is told to the bulk pool
    reaches=(DNS, MAIL_SERVERS),
    grace_seconds=GRACE_SECONDS,
)
