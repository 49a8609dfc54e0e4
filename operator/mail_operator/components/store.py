"""store: keeps mailboxes (Dovecot), a shard in each pod. Any pod takes any login and passes it on."""

from mail_operator.components.component import (
    ADMIN,
    CREDENTIALS,
    DNS,
    TLS,
    TMP,
    WORLD,
    Component,
    Container,
    Port,
    Volume,
)
from mailpods.directory.records import Service

# A login goes from one store pod to another by these, with STARTTLS.
PASSED_ON: tuple[Service, ...] = ("imap", "pop3", "sieve")

STORE = Component(
    name="store",
    containers=(
        Container(
            name="store",
            command=lambda at: (
                *("mailpods.store", "--role", "store", "--credentials", "/credentials"),
                *("--buckets", str(at.buckets), "--state", "/state", "--mail", "/mail", "--tls", "/tls"),
                *("--shard", "$(SHARD)"),
            ),
            ports=(
                Port("imap", 2143, public=143, proxy=3143, admits=(WORLD,)),
                Port("imaps", 2993, public=993, proxy=3993, admits=(WORLD,)),
                Port("pop3", 2110, public=110, proxy=3110, admits=(WORLD,)),
                Port("pop3s", 2995, public=995, proxy=3995, admits=(WORLD,)),
                Port("sieve", 4190, public=4190, admits=(WORLD,)),
                Port("lmtp", 2024),  # these two ask for no login: just those that say so talk to them
                Port("quota", 2340),
                Port("outgoing", 2526),  # on loopback, where Dovecot gives what filters of users send
                ADMIN,
            ),
            mounts=(
                CREDENTIALS,
                TLS,
                Volume("state", "scratch", "4Gi"),
                Volume("mail", "claim", claimed=lambda at: at.spec.storage.size),
                TMP,
            ),
            memory="256Mi",
            resources=lambda at: at.spec.store.resources,
            fields={"SHARD": "metadata.labels['apps.kubernetes.io/pod-index']"},
            holds_key=True,
        ),
    ),
    replicas=lambda at: at.spec.store.shards,
    optional=False,
    vital=True,
    pods_service="shards",
    talks_to={"store": PASSED_ON, "smtp": ("queue",)},
    reaches=(DNS,),
    grace_seconds=60,
)
