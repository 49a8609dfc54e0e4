"""Filters that users edit over ManageSieve (RFC 5804) act on what is delivered."""

import pytest

from tests.support.installation import Installation, mailbox, wait
from tests.support.managesieve import ManageSieve

SCRIPT = b'require ["fileinto", "mailbox"];\r\nif header :contains "subject" "invoice" {\r\n'
SCRIPT += b'  fileinto :create "Invoices";\r\n}\r\n'


@pytest.mark.req("R-002-14")
def test_an_uploaded_script_sorts_mail(house: Installation) -> None:
    house.apply("sorter", mailbox("sorter"))
    house.wait_for("Mailbox", "sorter")
    client = ManageSieve(house.port("sieve"), house.tls())
    client.login("7/sorter", "pw-sorter")
    client.ask(b'PUTSCRIPT "sort" {%d+}\r\n%s' % (len(SCRIPT), SCRIPT))
    client.ask(b'SETACTIVE "sort"')
    assert b'"sort" ACTIVE\r\n' in client.ask(b"LISTSCRIPTS")
    client.close()
    house.deliver("x@example.net", "sorter@a.test", "invoice 7")
    house.deliver("x@example.net", "sorter@a.test", "hello")
    assert b"Subject: hello" in house.wait_for_mail("7/sorter", "pw-sorter", 1)[0]

    def sorted_in() -> bool:
        with house.imap("7/sorter", "pw-sorter") as reader:
            return reader.select("Invoices", readonly=True) == ("OK", [b"1"])

    assert wait(sorted_in)
