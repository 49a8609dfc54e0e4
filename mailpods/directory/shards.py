"""Records as files: which record lies where, and the bytes of a file.

Every file is one JSON object `{"format": 1, TABLE: {KEY: RECORD}}`; fields at their default are left out.
"""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

from mailpods.directory.records import (
    Account,
    AddressEntry,
    Bucket,
    Credential,
    Credentials,
    DkimKey,
    Domain,
    ListRule,
    Pool,
    Route,
    Screening,
    Server,
    Shape,
    Shard,
    Smarthost,
    StoreSettings,
)

FORMAT = 1
SERVER_FILE = "server.json"
STORE_FILE = "store.json"

R = TypeVar("R")


class MalformedShard(ValueError):
    """A file does not hold what this version reads; the message says what is wrong."""


def bucket_of(key: str, count: int) -> int:
    """The bucket of a key among `count`: the same in every process and release, unlike hash()."""
    return zlib.crc32(key.encode()) % count


def file_name(bucket: int) -> str:
    """The name of a bucket's file, in the directory volume and in the credentials volume alike."""
    return f"bucket-{bucket:03d}.json"


def content_hash(data: bytes) -> str:
    """What pods report at /directory for a file: SHA-256, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _defaults(kind: type) -> dict[str, Any]:
    return {
        f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(kind)
    }


def _lean(record: Any) -> dict[str, Any]:
    # Not by asdict(), which copies deeply: of 36,000 records that took a second.
    values = ((name, getattr(record, name), default) for name, default in _DEFAULTS[type(record)].items())
    return {name: _plain(value) for name, value, default in values if value != default}


def _plain(value: Any) -> Any:
    """A value as JSON has it: the records within a record become objects."""
    if type(value) in _DEFAULTS:
        return _lean(value)
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def _dump(tables: Mapping[str, Any]) -> bytes:
    lines = json.dumps(
        {"format": FORMAT, **tables}, sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return lines.encode()


def _load(data: bytes, build: Callable[[dict[str, Any]], R]) -> R:
    try:
        tables = json.loads(data)
        if tables["format"] != FORMAT:
            raise MalformedShard(f"format {tables['format']!r} is not {FORMAT}: upgrade the older side")
        return build(tables)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, MalformedShard):
            raise
        raise MalformedShard(f"not a directory file: {error!r}") from error


def _record(kind: type[R], raw: Mapping[str, Any]) -> R:
    """A record from its JSON object; JSON's arrays become the tuples that frozen records hold."""
    inner = _RECORDS_WITHIN.get(kind, {})
    return kind(**{name: _value(inner.get(name), value) for name, value in raw.items()})


def _value(inner: type | None, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_value(inner, each) for each in value)
    return value if inner is None or value is None else _record(inner, value)


def _table(records: Mapping[Any, Any]) -> dict[str, Any]:
    return {key: _lean(record) for key, record in records.items()}


def _records(kind: type[R], table: Mapping[str, Any]) -> dict[Any, R]:
    return {key: _record(kind, raw) for key, raw in table.items()}


_RECORDS_WITHIN: Mapping[type, Mapping[str, type]] = {
    Domain: {"dkim": DkimKey},
    Server: {
        "shaping": Shape,
        "bulk": Pool,
        "smarthost": Smarthost,
        "shards": Shard,
        "routes": Route,
        "screening": Screening,
    },
    Screening: {"lists": ListRule},
    Route: {"via": Smarthost},
}
_DEFAULTS = {
    kind: _defaults(kind)
    for kind in (
        *(Account, AddressEntry, Credential, Domain, Server, StoreSettings),
        *(DkimKey, Pool, Shape, Shard, Smarthost, Route, ListRule, Screening),
    )
}


def encode(bucket: Bucket) -> bytes:
    """Canonical bytes: equal records give equal bytes, so that a hash says whether anything changed."""
    return _dump(
        {
            "domains": _table(bucket.domains),
            "addresses": _table(bucket.addresses),
            "accounts": _table(bucket.accounts),
        }
    )


def decode(data: bytes) -> Bucket:
    """The inverse of encode(). Raises MalformedShard for anything else, other formats included."""
    return _load(
        data,
        lambda tables: Bucket(
            _records(Domain, tables["domains"]),
            _records(AddressEntry, tables["addresses"]),
            _records(Account, tables["accounts"]),
        ),
    )


def encode_credentials(credentials: Credentials) -> bytes:
    """Canonical bytes of a credentials file."""
    return _dump({"accounts": _table(credentials.accounts)})


def decode_credentials(data: bytes) -> Credentials:
    """The inverse of encode_credentials(). Raises MalformedShard."""
    return _load(data, lambda tables: Credentials(_records(Credential, tables["accounts"])))


def encode_server(server: Server) -> bytes:
    """Canonical bytes of `server.json`."""
    return _dump({"server": _lean(server)})


def decode_server(data: bytes) -> Server:
    """The inverse of encode_server(). Raises MalformedShard."""

    return _load(data, lambda tables: _record(Server, tables["server"]))


def encode_store(settings: StoreSettings) -> bytes:
    """Canonical bytes of `store.json`."""
    return _dump({"store": _lean(settings)})


def decode_store(data: bytes) -> StoreSettings:
    """The inverse of encode_store(). Raises MalformedShard."""
    return _load(data, lambda tables: _record(StoreSettings, tables["store"]))
