"""Makes the Secrets that a Plan wants and nobody gave: passwords, keys, certificates of an own authority.

They are created, never overwritten: of two operators at once the first one's stays. They have no owner, so
that no accident takes a password away with the object that it was made for.
"""

import asyncio
import base64
import datetime
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mail_operator.cluster.client import ApiClient, ApiError
from mail_operator.cluster.kinds import collection, path
from mail_operator.compiler.plan import GeneratedSecret
from mail_operator.compiler.snapshot import SecretName
from mail_operator.engine.rotation import rotated
from mail_operator.engine.secrets import (
    KeyPair,
    generate_password,
    make_ca,
    make_certificate,
    make_dkim_keys,
    needs_renewal,
)
from mail_operator.kinds.meta import ObjectRef

AUTHORITY = "mailpods-ca"
MADE = "mailpods.io/made-for"  # label: the kind of object


class SecretProvisioner:
    """One for each operator."""

    def __init__(self, client: ApiClient, log: Callable[[str], None]) -> None:
        self._client, self._log = client, log
        self._valid: dict[SecretName, tuple[str, datetime.datetime]] = {}  # certificate's version, looked at

    async def make(
        self,
        wanted: Iterable[GeneratedSecret],
        there: Mapping[SecretName, Any],
        whole: Callable[[SecretName], tuple[str, Any]],
    ) -> None:
        """Make what is missing, certificates anew that end within the month or lack a name, and keys in time.

        `there`: what is cached of each Secret; `whole`: the version and the values of one that was read.
        """
        for secret in wanted:
            name = (secret.namespace, secret.name)
            try:
                if secret.kind == "tls":
                    await self._certificate(secret, there.get(name))
                elif name in there:
                    mark, values = whole(name)
                    # From older values the change of a moment ago would be made once more, with other keys.
                    if secret.rotate_days and mark == there[name].mark:
                        await self._rotate(secret, mark, values)
                elif secret.kind == "dkim":
                    now = datetime.datetime.now(datetime.UTC)
                    await self._create(secret, "Opaque", await asyncio.to_thread(make_dkim_keys, now))
                else:
                    await self._create(secret, "Opaque", {secret.kind: generate_password().encode()})
            except ApiError as error:
                self._log(f"Secret {'/'.join(name)}: not made: {error}")

    async def _rotate(self, secret: GeneratedSecret, mark: str, values: Any) -> None:
        """Change the keys of a domain, if it is time. Of two operators at once the first one does."""
        if not isinstance(values, Mapping) or secret.rotate_days is None:
            return
        today = datetime.datetime.now(datetime.UTC).date()
        changes = await asyncio.to_thread(
            rotated, values, secret.seen, secret.rotate_days, today, make_dkim_keys
        )
        if not changes:
            return
        data = {key: base64.b64encode(v).decode() if v is not None else None for key, v in changes.items()}
        meta = {"resourceVersion": mark.rpartition("/")[2]}
        name = ObjectRef("Secret", secret.namespace, secret.name)
        await self._client.merge(path(name), {"metadata": meta, "data": data})
        self._log(f"{name}: DKIM keys: {', '.join(changes)} changed")

    async def _create(self, secret: GeneratedSecret, type_: str, values: Mapping[str, bytes]) -> None:
        try:
            await self._client.create(
                collection("Secret", secret.namespace), _manifest(secret, type_, values)
            )
        except ApiError as error:
            if error.code != 409:
                raise

    async def _certificate(self, secret: GeneratedSecret, cached: Any) -> None:
        name, now = (secret.namespace, secret.name), datetime.datetime.now(datetime.UTC)
        seen = self._valid.get(name)
        if cached is not None:
            if (
                seen
                and seen[0] == f"{cached.mark} {secret.hosts}"
                and now - seen[1] < datetime.timedelta(hours=1)
            ):
                return
            held = await self._client.get(path(ObjectRef("Secret", *name)))
            try:
                current = base64.b64decode(held["data"]["tls.crt"])
                if not needs_renewal(current, secret.hosts, now):
                    self._valid[name] = (f"{cached.mark} {secret.hosts}", now)
                    return
            except (KeyError, ValueError):
                self._log(f"Secret {'/'.join(name)}: holds no certificate, and is written anew")
        authority = await self._authority(now)
        leaf = make_certificate(authority, secret.hosts, now)
        files = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": authority.certificate}
        if cached is None:
            await self._create(secret, "kubernetes.io/tls", files)
        else:
            data = {key: base64.b64encode(value).decode() for key, value in files.items()}
            await self._client.merge(path(ObjectRef("Secret", *name)), {"data": data})

    async def _authority(self, now: datetime.datetime) -> KeyPair:
        """The operator's own authority, kept in its namespace."""
        ref = ObjectRef("Secret", self._client.namespace, AUTHORITY)
        try:
            held = await self._client.get(path(ref))
        except ApiError as error:
            if error.code != 404:
                raise
            pair = make_ca("Mailpods", now)
            wanted = GeneratedSecret("tls", ref.namespace, ref.name, ref)
            values = {"tls.crt": pair.certificate, "tls.key": pair.key}
            await self._create(wanted, "kubernetes.io/tls", values)
            held = await self._client.get(path(ref))
        return KeyPair(*(base64.b64decode(held["data"][key]) for key in ("tls.crt", "tls.key")))


def _manifest(secret: GeneratedSecret, type_: str, values: Mapping[str, bytes]) -> dict[str, Any]:
    labels = {MADE: secret.owner.kind, "app.kubernetes.io/part-of": "mailpods"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": secret.name, "namespace": secret.namespace, "labels": labels},
        "type": type_,
        "data": {key: base64.b64encode(value).decode() for key, value in values.items()},
    }
