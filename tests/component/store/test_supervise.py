"""Sessions outlive a new certificate, and nothing outlives the program."""

import datetime
import imaplib
import os
import signal
import ssl
from functools import partial
from pathlib import Path

import pytest

from bench.processes import family
from tests.support.installation import wait
from tests.support.pairs import bad
from tests.support.storepod import HOST, StoreProgram, credential


def served(store: StoreProgram) -> str:
    return ssl.get_server_certificate((HOST, store.ports["IMAPS"]))


def serves(store: StoreProgram, pem: str) -> bool:
    return pem.startswith(served(store).strip())


def complains(store: StoreProgram, before: int) -> bool:
    return store.log.count("the certificate in") > before


def bye(client: imaplib.IMAP4, seconds: float) -> bool:
    """Whether the server ends the session within that time."""
    client.sock.settimeout(seconds)
    try:
        client.sock.recv(1)  # of a BYE, or nothing more
        return True
    except TimeoutError:
        return False


def test_a_new_certificate_is_served_and_ends_no_session(store: StoreProgram) -> None:
    store.start()
    accounts = {"7/info": credential("7/info", password="pw"), "7/anna": credential("7/anna", password="pw")}
    store.tell(accounts)
    with store.imap("7/info", "pw") as clear, store.imaps("7/anna", "pw") as tls:
        pem = store.renew_certificate().decode()
        wait(lambda: pem.startswith(served(store).strip()))
        # Six seconds after a reload Dovecot used to end them.
        assert not bye(clear, 7) and not bye(tls, 0.1)
        clear.sock.settimeout(30)
        # And they are still known: an account that is gone has no sessions.
        store.tell({"7/anna": accounts["7/anna"]})
        assert bye(clear, 10)
        wait(lambda: not (store.folder / "m" / "7" / "info").exists())
        assert not bye(tls, 0.1)


def test_a_pair_that_is_of_no_use_leaves_the_last_good_one_in_use(store: StoreProgram) -> None:
    store.start()
    store.tell({"7/info": credential("7/info", password="pw")})
    for what, (_, pair) in bad("mail.a.test", datetime.datetime.now(datetime.UTC)).items():
        good = store.renew_certificate().decode()
        wait(partial(serves, store, good))
        told = store.log.count("the certificate in")
        for name, data in pair.items():
            (store.folder / "t" / name).write_bytes(data)
        wait(partial(complains, store, told), why=what)
        assert serves(store, good), what
    with store.imaps("7/info", "pw"):
        pass


@pytest.mark.parametrize("ends", ["program", "dovecot"])
def test_sessions_end_with_dovecot(store: StoreProgram, ends: str) -> None:
    store.start()
    store.tell({"7/info": credential("7/info", password="pw")})
    assert store.process
    with store.imap("7/info", "pw") as clear, store.imaps("7/info", "pw") as tls:
        processes = set(family(store.process.pid)) - {store.process.pid}
        assert len(processes) > 4
        if ends == "program":
            store.stop()
        else:
            pid = int((store.state / "run" / "master.pid").read_text())
            os.kill(pid, signal.SIGKILL)
            wait(lambda: "it is started again" in store.log and store.is_up())
        assert bye(clear, 5) and bye(tls, 5)
        assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
