"""The contract between control plane and mail pods: records in shard files, and their hot-reloading reader.

The control plane writes one JSON file per bucket; mail pods read them and report the hash of what they
loaded. Nothing here knows Kubernetes, SMTP or Dovecot, and no password hash is ever part of it.
"""

from mailpods.directory.reader import DirectoryReader
from mailpods.directory.records import Account, AccountId, Address, AddressEntry, Bucket, Domain, DomainName
from mailpods.directory.shards import MalformedShard, bucket_of, content_hash, decode, encode, file_name

__all__ = [
    "Account",
    "AccountId",
    "Address",
    "AddressEntry",
    "Bucket",
    "DirectoryReader",
    "Domain",
    "DomainName",
    "MalformedShard",
    "bucket_of",
    "content_hash",
    "decode",
    "encode",
    "file_name",
]
