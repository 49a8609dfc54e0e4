"""The Secrets of one machine: in which version they are, who needs them, and how Kubernetes writes one."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any

from mail_operator.compiler.plan import Manifest
from mail_operator.compiler.snapshot import SecretName
from mail_operator.local.pods import WORKLOADS


def mark_of(values: Mapping[str, bytes], key: bytes) -> str:
    """The version of a Secret, that another run comes to as well: keyed, for it may be a password's."""
    # As it always was for a password alone: nothing is hashed again for another version of us.
    text = [values["password"]] if values.keys() == {"password"} else _flat(values)
    return hmac.new(key, b"".join(text), hashlib.sha256).hexdigest()


def _flat(values: Mapping[str, bytes]) -> Iterator[bytes]:
    for key, value in sorted(values.items()):
        yield f"{len(key)} {key} {len(value)} ".encode()
        yield value


def needed_by(manifest: Manifest) -> Iterator[SecretName]:
    """The Secrets without which a pod cannot start."""
    if manifest["kind"] not in WORKLOADS:
        return
    namespace, spec = manifest["metadata"]["namespace"], manifest["spec"]["template"]["spec"]
    for volume in spec.get("volumes", ()):
        sources: list[Manifest] = [volume, *volume.get("projected", {}).get("sources", ())]
        for source in sources:
            secret = source.get("secret", {})
            if secret and not secret.get("optional"):
                yield namespace, secret.get("secretName") or secret["name"]
    for container in spec["containers"]:
        for variable in container.get("env", ()):
            if reference := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield namespace, reference["name"]


def secret_manifest(name: SecretName, values: Mapping[str, bytes]) -> dict[str, Any]:
    """A Secret as Kubernetes writes it."""
    data = {key: base64.b64encode(value).decode() for key, value in values.items()}
    meta = {"namespace": name[0], "name": name[1]}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}


def name_of(manifest: Manifest) -> SecretName:
    """The name of a Secret."""
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
