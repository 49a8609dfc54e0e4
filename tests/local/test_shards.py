"""Two store pods: each takes every login, and passes on those whose mailbox another one owns."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.installation import EmbeddedInstallation, domain, mailbox, manifest, server, wait
from tests.support.managesieve import ManageSieve

# The policy's LAN: other addresses than 127.0.0.1, from which the tests' clients come.
ELSEWHERE = [{"name": "office", "cidr": "192.0.2.0/24"}]


@pytest.fixture(scope="module")
def two(module_installation: EmbeddedInstallation) -> Iterator[EmbeddedInstallation]:
    policy = manifest("RelayPolicy", "main", {"serverRef": {"name": "main"}, "lanNetworks": ELSEWHERE})
    module_installation.apply("server", server(store={"shards": 2}), domain("a.test", 7), policy)
    module_installation.apply("here", mailbox("here"))
    module_installation.apply("there", mailbox("there", shard=1))
    module_installation.apply("lan", mailbox("lan", shard=1, services={"imap": "lan", "pop3": "off"}))
    module_installation.start()
    for name in ("here", "there", "lan"):
        module_installation.wait_for("Mailbox", name)
    yield module_installation


@pytest.mark.parametrize("name", ["here", "there"])
def test_mail_of_either_shard_is_read_through_the_first(two: EmbeddedInstallation, name: str) -> None:
    two.deliver("x@example.net", f"{name}@a.test")
    assert len(two.wait_for_mail(f"7/{name}", f"pw-{name}", 1)) == 1
    assert len(two.inbox(f"{name}@a.test", f"pw-{name}")) == 1  # any login form
    with two.pop3(f"7/{name}", f"pw-{name}") as reader:
        assert reader.stat()[0] == 1
    log = two.log("main-store-0-store")  # the first pod stands for the Service
    assert (f"proxy({name}@a.test" in log) == (name == "there")
    owner = 1 if name == "there" else 0
    for shard in (0, 1):
        folder = two.data / "volumes" / f"mail-main-store-{shard}" / "7" / name
        assert folder.exists() == (shard == owner)


def test_filters_of_either_shard_are_edited_through_the_first(two: EmbeddedInstallation) -> None:
    for name in ("here", "there"):
        client = ManageSieve(two.address("sieve"), two.tls())
        client.login(f"7/{name}", f"pw-{name}")
        client.ask(f'PUTSCRIPT "{name}" {{5+}}\r\nkeep;'.encode())
        assert [line.split()[0] for line in client.ask(b"LISTSCRIPTS")] == [f'"{name}"'.encode()]
        client.close()


def test_a_wrong_password_is_wrong_on_either_shard(two: EmbeddedInstallation) -> None:
    assert not two.can_log_in("7/there", "pw-here")
    assert not two.can_log_in("7/nobody", "pw-there")


def test_the_owner_sees_the_client_s_own_address(two: EmbeddedInstallation) -> None:
    """The first pod's address is not that of the LAN, nor is the client's: services for the LAN stay shut."""
    assert not two.can_log_in("7/lan", "pw-lan")
    with pytest.raises(Exception, match=r"ERR"), two.pop3("7/lan", "pw-lan"):
        pass
    two.apply("open", mailbox("open", shard=1, services={"imap": "everywhere"}))
    two.wait_for("Mailbox", "open")
    assert two.can_log_in("7/open", "pw-open")


def test_a_new_shard_takes_new_mailboxes_and_old_ones_stay(
    installations: Callable[[], EmbeddedInstallation],
) -> None:
    made = installations()
    made.apply("server", server(), domain("a.test", 7))
    made.apply("old", mailbox("old"))
    made.start()
    made.wait_for("Mailbox", "old")
    made.deliver("x@example.net", "old@a.test")
    made.wait_for_mail("7/old", "pw-old", 1)
    made.apply("server", server(store={"shards": 2}), domain("a.test", 7))
    made.apply("new", mailbox("new"))
    made.wait_for("Mailbox", "new", seconds=60)
    made.deliver("x@example.net", "new@a.test")

    def hold() -> None:
        for name in ("old", "new"):
            made.wait_for_mail(f"7/{name}", f"pw-{name}", 1)
        homes = {path.parts[-3]: path.name for path in made.data.glob("volumes/mail-*/7/[!.]*")}
        assert homes == {"mail-main-store-0": "old", "mail-main-store-1": "new"}

    hold()
    made.stop()
    made.start()
    for name in ("old", "new"):
        made.wait_for("Mailbox", name)
    hold()
    made.remove("new")
    wait(lambda: not list(made.data.glob("volumes/mail-main-store-1/7/new")), 20)
    made.apply("new", mailbox("new"))
    made.wait_for("Mailbox", "new")
    hold()  # it comes back to its own shard, where its mail is parked
