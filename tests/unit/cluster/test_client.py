"""What the API server asks of its clients."""

import datetime
from email.utils import format_datetime

from mail_operator.cluster.client import retry_after


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("7") == 7
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=30)
    assert 25 < retry_after(format_datetime(soon, usegmt=True)) <= 30
    assert retry_after("Fri, 31 Dec 1999 23:59:59 GMT") == 0


def test_nonsense_is_no_wish() -> None:
    assert [retry_after(text) for text in ("", "soon", "-5", "nan", "inf")] == [0] * 5
