"""Dovecot's counts of logins, as 2.3 and 2.4 tell them."""

import pytest

from mailpods.store.statistics import counts, metrics

TOLD = """\
# TYPE dovecot_logins_ok counter
dovecot_logins_ok_total{%(label)s="imap"} 3
dovecot_logins_ok_count 3
dovecot_logins_ok_duration_seconds_total{%(label)s="imap"} 0.000109
dovecot_logins_wrong_total{%(label)s="imap"} 2
dovecot_logins_wrong_total{%(label)s="pop3"} 1
# EOF
"""


@pytest.mark.parametrize("label", ["service", "protocol"])
def test_logins_are_told_by_protocol_and_result(label: str) -> None:
    found = counts(TOLD % {"label": label})
    assert found == {("imap", "ok"): 3, ("imap", "wrong"): 2, ("pop3", "wrong"): 1}


def test_both_versions_of_dovecot_group_in_their_own_language() -> None:
    assert "  group_by = service" in "\n".join(metrics((2, 3))).splitlines()
    assert "  group_by protocol {" in "\n".join(metrics((2, 4))).splitlines()
