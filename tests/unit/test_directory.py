"""The directory: what the control plane writes is what mail pods read, at once, and never half."""

from pathlib import Path

import pytest

from mailpods.directory.reader import CredentialsReader, DirectoryReader
from mailpods.directory.records import (
    Account,
    AccountId,
    Address,
    AddressEntry,
    Bucket,
    Credential,
    Credentials,
    Domain,
    DomainName,
    Server,
    Shard,
    Smarthost,
    StoreSettings,
)
from mailpods.directory.shards import (
    MalformedShard,
    bucket_of,
    content_hash,
    decode,
    decode_credentials,
    decode_server,
    decode_store,
    encode,
    encode_credentials,
    encode_server,
    encode_store,
    file_name,
)

INFO = Address("info@a.test")


def a_bucket(quota: int | None = None) -> Bucket:
    return Bucket(
        domains={DomainName("a.test"): Domain(number=7)},
        addresses={
            INFO: AddressEntry("Mailbox a/info", account=AccountId("7/info")),
            Address("sales@a.test"): AddressEntry("MailAlias a/sales", targets=(INFO,)),
        },
        accounts={AccountId("7/info"): Account(INFO, shard=0, quota=quota)},
    )


def put(folder: Path, data: bytes) -> None:
    new = folder / "new"
    new.write_bytes(data)
    new.rename(folder / file_name(0))


def test_what_is_written_is_read_back() -> None:
    assert decode(encode(a_bucket(quota=10))) == a_bucket(quota=10)


def test_order_of_records_does_not_change_the_bytes() -> None:
    bucket = a_bucket()
    turned = Bucket(bucket.domains, dict(reversed(list(bucket.addresses.items()))), bucket.accounts)
    assert encode(turned) == encode(bucket)


def test_a_key_keeps_its_bucket_across_releases() -> None:
    assert [bucket_of(f"user{n}@a.test", 16) for n in range(4)] == [0, 14, 13, 3]


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"format":2}', encode(a_bucket())[:-9], b"\xff"])
def test_a_malformed_shard_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedShard):
        decode(data)


def test_an_edit_is_seen_and_its_hash_reported(tmp_path: Path) -> None:
    put(tmp_path, encode(a_bucket()))
    reader = DirectoryReader(tmp_path, 1)
    assert reader.refresh()
    assert reader.address(INFO) == AddressEntry("Mailbox a/info", account=AccountId("7/info"))
    assert reader.domain(DomainName("b.test")) is None

    put(tmp_path, encode(a_bucket(quota=5)))
    assert reader.refresh()
    account = reader.account(AccountId("7/info"))
    assert account is not None and account.quota == 5
    assert reader.hashes == {file_name(0): content_hash(encode(a_bucket(quota=5)))}
    assert not reader.refresh()


def test_a_bad_or_lost_file_changes_nothing_but_is_told(tmp_path: Path) -> None:
    put(tmp_path, encode(a_bucket()))
    reader = DirectoryReader(tmp_path, 1)
    reader.refresh()
    good = dict(reader.hashes)

    put(tmp_path, b"{")
    assert not reader.refresh()
    assert "not a directory file" in reader.problems[file_name(0)]
    (tmp_path / file_name(0)).unlink()
    assert not reader.refresh()
    assert "cannot be read" in reader.problems[file_name(0)]
    assert reader.address(INFO) is not None and reader.hashes == good

    put(tmp_path, encode(a_bucket()))
    reader.refresh()
    assert file_name(0) not in reader.problems


def test_server_and_credentials_come_back_as_they_were() -> None:
    server = Server(
        "mx.a.test", lan=("10.0.0.0/8",), smarthost=Smarthost("hub"), shards=(Shard("s:24", "s:340"),)
    )
    assert decode_server(encode_server(server)) == server
    settings = StoreSettings("mx.a.test", shards=({"imap": "s:143"},))
    assert decode_store(encode_store(settings)) == settings
    credentials = Credentials({AccountId("7/info"): Credential(("7/info",), "{PLAIN}x", {"imap": "lan"})})
    assert decode_credentials(encode_credentials(credentials)) == credentials


def test_credentials_are_complete_only_when_every_file_is_there(tmp_path: Path) -> None:
    reader = CredentialsReader(tmp_path, 1)
    put(tmp_path, encode_credentials(Credentials()))
    reader.refresh()
    assert not reader.complete and reader.settings is None
    (tmp_path / "store.json").write_bytes(encode_store(StoreSettings("mx.a.test")))
    reader.refresh()
    assert reader.complete
