"""Retries come later and later, up to an hour, and never all at the same moment."""

from itertools import pairwise

from mailpods.delivery.outcomes import retry


def test_each_waits_longer_than_the_one_before() -> None:
    means = [sum(retry.backoff(n) for _ in range(400)) / 400 for n in range(12)]
    assert all(later > 1.5 * sooner for sooner, later in pairwise(means[:7]))
    assert 24 <= means[0] <= 36 and 0.9 * retry.LONGEST_RETRY < means[-1] < 1.1 * retry.LONGEST_RETRY
    assert max(retry.backoff(10_000) for _ in range(400)) <= 1.2 * retry.LONGEST_RETRY
    assert len({retry.backoff(3) for _ in range(50)}) > 40
