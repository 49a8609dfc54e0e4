"""The files of a server's buckets: the records of all its domains, spread by a stable hash."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from mail_operator.compiler.domain_plan import BUCKETS, Records
from mail_operator.compiler.memory import Key, Memory
from mail_operator.compiler.server import encode_versions, file_secret, installation
from mail_operator.kinds.meta import ObjectRef
from mailpods.directory.records import Bucket, Credentials
from mailpods.directory.shards import encode, encode_credentials, file_name


def merge(old: Memory, new: Memory, dirty: Iterable[ObjectRef]) -> None:
    """Put the records of changed domains in the place of their old ones, and encode those files."""
    copied: dict[Key, dict[ObjectRef, Records]] = {}
    for domain in dirty:
        old_state = old.topology.domains.get(domain)
        was, built = old.domain_plans.get(domain), new.domain_plans.get(domain)
        state = new.topology.domains.get(domain)
        before = {(old_state.server_ref, n): r for n, r in was.buckets.items()} if was and old_state else {}
        now = {(state.server_ref, n): r for n, r in built.buckets.items()} if built and state else {}
        for key in before.keys() | now.keys():
            if before.get(key) != now.get(key):  # most buckets of a domain hold what they held
                part = copied.setdefault(key, dict(new.parts.get(key, {})))
                part.pop(domain, None)
                if key in now:
                    part[domain] = now[key]
    new.parts.update(copied)
    stale = set(copied)
    for server in new.topology.servers:
        of_server = {(server, n) for n in range(BUCKETS)}
        stale |= of_server if server in old.faults else of_server - old.files.keys()
    for key in stale:
        if key[0] in new.topology.servers:
            try:
                _encode(old, new, key)
            except Exception as error:
                new.fault(key[0], error)
    for key in [key for key in new.files if key[0] not in new.topology.servers]:
        del new.files[key], new.manifests[key]
        new.parts.pop(key, None)


def _encode(old: Memory, new: Memory, key: Key) -> None:
    server, bucket = key
    parts = new.parts.get(key, {})
    try:
        encoded = _encoded(parts.values())
    except Exception:
        encoded = _encoded(_sound(old, new, key, parts).values())
    if old.files.get(key) == encoded:
        return
    directory, credentials, versions = encoded
    at = installation(new.topology.servers[server], new.snapshot.image)
    file = file_name(bucket)
    new.manifests[key] = (
        file_secret(at, "directory", at.bucket_secret("directory", bucket), file, directory),
        file_secret(at, "credentials", at.bucket_secret("credentials", bucket), file, credentials, versions),
    )
    new.files[key] = encoded


def _sound(
    old: Memory, new: Memory, key: Key, parts: Mapping[ObjectRef, Records]
) -> dict[ObjectRef, Records]:
    """Those parts of a bucket that can be written, and the last ones of domains whose parts cannot."""
    sound = dict[ObjectRef, Records]()
    for domain, records in parts.items():
        try:
            _encoded([records])
            sound[domain] = records
        except Exception as error:
            new.fault(domain, error)
            sound[domain] = old.parts.get(key, {}).get(domain) or Records()
            built = new.domain_plans[domain]
            new.domain_plans[domain] = replace(built, buckets={**built.buckets, key[1]: sound[domain]})
    new.parts[key] = sound
    return sound


def _encoded(parts: Iterable[Records]) -> tuple[bytes, bytes, bytes]:
    """The files of one bucket: directory, credentials, versions."""
    merged = Records()
    for records in parts:
        merged.domains.update(records.domains)
        merged.addresses.update(records.addresses)
        merged.accounts.update(records.accounts)
        merged.credentials.update(records.credentials)
        merged.versions.update(records.versions)
    return (
        encode(Bucket(merged.domains, merged.addresses, merged.accounts)),
        encode_credentials(Credentials(merged.credentials)),
        encode_versions(merged.versions),
    )
