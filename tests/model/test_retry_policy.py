"""One back-off for all: pauses grow to a longest one, differ for each, and end with the attempts."""

from syncline.model.retry_policy import RetryPolicy

POLICY = RetryPolicy(max_attempts=6, first_pause_seconds=0.1, max_pause_seconds=0.5)


def test_pauses_grow_up_to_the_longest_one_however_often_it_fails():
    assert [POLICY.pause_seconds(failures) for failures in range(1, 6)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    assert POLICY.pause_seconds(1_000_000) == 0.5
    assert RetryPolicy(first_pause_seconds=60, max_pause_seconds=1e9, factor=3).pause_seconds(4) == 60 * 27


def test_there_is_one_pause_for_each_attempt_and_none_after_the_last():
    pauses = list(POLICY.pauses())
    assert len(pauses) == 6
    assert pauses[-1] == 0
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses[:-1], [0.1, 0.2, 0.4, 0.5, 0.5], strict=True))
    assert list(RetryPolicy(first_pause_seconds=1, max_pause_seconds=1).pauses()) == [0]


def test_those_who_failed_together_do_not_return_together():
    assert len({next(POLICY.pauses()) for _ in range(100)}) > 50
    steady = RetryPolicy(max_attempts=2, first_pause_seconds=0.1, max_pause_seconds=0.5, jitter=0)
    assert {next(steady.pauses()) for _ in range(9)} == {0.1}
