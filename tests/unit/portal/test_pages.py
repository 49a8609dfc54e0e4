"""What the portal says, from the facts that it is given."""

from email.message import EmailMessage
from email.policy import SMTP

import pytest

from mailpods.directory.guide import Guide
from mailpods.portal.pages import page, usable_bytes


@pytest.mark.parametrize("limit", [2_000_000, 50_000_000])
def test_attachments_of_the_size_that_is_said_fit_and_much_larger_ones_do_not(limit: int) -> None:
    def size(attached: int) -> int:
        made = EmailMessage(policy=SMTP)
        made["From"], made["To"], made["Subject"] = "info@a.test", "anna@a.test", "photos"
        made.set_content("Here they are.\n")
        made.add_attachment(bytes(attached), maintype="image", subtype="jpeg", filename="photo.jpg")
        return len(made.as_bytes())

    usable = usable_bytes(limit)
    assert limit * 0.93 < size(usable) < limit
    assert size(usable + 200_000) > limit


def test_a_hundred_and_twenty_eight_megabytes_are_more_than_ninety_for_attachments() -> None:
    said = page(Guide("mail.a.test", 128_000_000), authority=False)
    assert "may have 128 MB" in said and "<strong>93 MB</strong>" in said
    assert "may have 2.0 MB" in page(Guide("mail.a.test", 2_000_000), authority=False)
    assert usable_bytes(1000) == 0


def test_what_the_server_does_not_have_is_not_offered() -> None:
    plain = page(Guide("mail.a.test", 50_000_000), authority=False)
    assert "4587" not in plain and "ca.crt" not in plain and "takes no login" in plain
    full = page(Guide("mail.a.test", 50_000_000, tls_required=False, bulk=True), authority=True)
    assert "4587" in full and 'href="/ca.crt"' in full and "nobody can read along" in full


def test_the_recommended_ports_come_first_and_names_are_text() -> None:
    said = page(Guide("<b>.test", 50_000_000, bulk=True), authority=True)
    assert said.index(">143<") < said.index(">993<") < said.index(">110<")
    assert said.index(">587<") < said.index(">465<") and said.index(">4587<") < said.index(">1465<")
    assert "<b>" not in said


def test_facts_survive_the_way_through_the_environment() -> None:
    guide = Guide("mail.a.test", 50_000_000, False, True)
    assert Guide.decode(guide.encode()) == guide
    with pytest.raises((ValueError, TypeError)):
        Guide.decode('{"hostname": "x"}')
