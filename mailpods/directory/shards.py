"""Buckets as files: which record lies where, and the bytes of a bucket."""

import hashlib
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mailpods.directory.records import Account, AccountId, Address, AddressEntry, Bucket, Domain, DomainName

FORMAT = 1


class MalformedShard(ValueError):
    """A shard file does not hold what this version reads; the message says what is wrong."""


def bucket_of(key: str, count: int) -> int:
    """The bucket of a key among `count`: the same in every process and release, unlike hash()."""
    return zlib.crc32(key.encode()) % count


def file_name(bucket: int) -> str:
    """The name of a bucket's file in the directory volume."""
    return f"bucket-{bucket:03d}.json"


def content_hash(data: bytes) -> str:
    """What pods report at /directory for a file: SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _table(records: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: {k: v for k, v in asdict(r).items() if v not in (None, ())} for key, r in records.items()}


def encode(bucket: Bucket) -> bytes:
    """Canonical bytes: equal records give equal bytes, so that a hash says whether anything changed."""
    tables = {
        "format": FORMAT,
        "domains": _table(bucket.domains),
        "addresses": _table(bucket.addresses),
        "accounts": _table(bucket.accounts),
    }
    return json.dumps(tables, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode(data: bytes) -> Bucket:
    """The inverse of encode(). Raises MalformedShard for anything else, other formats included."""
    try:
        tables = json.loads(data)
        if tables["format"] != FORMAT:
            raise MalformedShard(f"format {tables['format']!r} is not {FORMAT}: upgrade the older side")
        return Bucket(
            domains={DomainName(k): Domain(**v) for k, v in tables["domains"].items()},
            addresses={
                Address(k): AddressEntry(**{**v, "targets": tuple(v.get("targets", ()))})
                for k, v in tables["addresses"].items()
            },
            accounts={AccountId(k): Account(**v) for k, v in tables["accounts"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, MalformedShard):
            raise
        raise MalformedShard(f"not a directory shard: {error!r}") from error
