"""One MailServer as its components see it: what it asks for, and how its objects are called."""

from dataclasses import dataclass
from typing import Any

from mail_operator.kinds.mailserver import MailServer, MailServerSpec
from mail_operator.kinds.meta import ObjectRef
from mailpods.directory.records import Server

Manifest = dict[str, Any]


def bucket_secret(server: str, mount: str, bucket: int) -> str:
    """Name of the Secret of a bucket of `mount`, directory or credentials, of the MailServer of this name."""
    return f"{server}-{mount}-{bucket:03d}"


@dataclass(frozen=True)
class Installation:
    """What declarations and the builders of objects look at."""

    server: MailServer
    image: str
    buckets: int
    record: Server | None = None  # what its mail pods are told; None before that is known

    @property
    def ref(self) -> ObjectRef:
        """The MailServer."""
        return self.server.ref

    @property
    def spec(self) -> MailServerSpec:
        """What the platform team asks for."""
        return self.server.spec

    @property
    def name(self) -> str:
        """The MailServer's name, with which the names of all its objects begin."""
        return self.ref.name

    @property
    def namespace(self) -> str:
        """The namespace of all its objects."""
        return self.ref.namespace

    @property
    def tls_secret(self) -> str:
        """The Secret with the certificate."""
        return self.server.certificate_secret

    @property
    def key_secret(self) -> str:
        """The Secret by which its pods know each other."""
        return f"{self.name}-key"

    @property
    def proxied(self) -> bool:
        """Whether anybody may tell clients' addresses by a PROXY header: else no port takes one."""
        return bool(self.spec.service.proxies or self.spec.service.proxy_pods)

    def labels(self, component: str | None = None) -> dict[str, str]:
        """The recommended labels of Kubernetes; with `component` they select its pods."""
        labels = {"app.kubernetes.io/name": "mailpods", "app.kubernetes.io/instance": self.name}
        return {**labels, "app.kubernetes.io/component": component} if component else labels

    def metadata(self, name: str, component: str | None = None) -> Manifest:
        """Metadata of an object of this installation. The owner reference is added when it is applied."""
        labels = {**self.labels(component), "app.kubernetes.io/managed-by": "mailpods"}
        return {"name": name, "namespace": self.namespace, "labels": labels}

    def bucket_secret(self, mount: str, bucket: int) -> str:
        """Name of the Secret of a bucket of `mount`."""
        return bucket_secret(self.name, mount, bucket)

    def main_secret(self, mount: str) -> str:
        """Name of the Secret of `server.json` or `store.json`."""
        return f"{self.name}-{mount}"
