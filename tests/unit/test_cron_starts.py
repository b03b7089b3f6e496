"""Whether a schedule starts now: every decision, and that no tick starts twice."""

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cron import (
    ON_TIME_SECONDS,
    Interval,
    OverlapPolicy,
    Schedule,
    StartDecision,
    decide_starts,
)
from tests.unit.cron_strategies import MINUTE, MOMENTS, SCHEDULES

HOURLY = Interval(3_600.0)
TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)
"""A tick of the hourly schedule; those before it have been dealt with."""
NINE, ELEVEN, TWELVE = (TEN + timedelta(hours=hours) for hours in (-1, 1, 2))
SECOND = timedelta(seconds=1)


def _decide(
    now: datetime,
    *,
    last_tick: datetime = NINE,
    overlap: OverlapPolicy = "skip",
    is_running: bool = False,
    paused: bool = False,
    catch_up: bool = False,
    waiting: datetime | None = None,
) -> StartDecision:
    return decide_starts(
        HOURLY,
        last_tick=last_tick,
        now=now,
        overlap=overlap,
        is_running=is_running,
        paused=paused,
        catch_up=catch_up,
        waiting=waiting,
    )


def test_nothing_starts_before_its_time() -> None:
    assert _decide(TEN - SECOND) == StartDecision(None, NINE)


def test_a_tick_starts_when_it_comes_and_only_once() -> None:
    decision = _decide(TEN)
    assert decision == StartDecision(TEN, TEN)
    assert _decide(TEN + SECOND, last_tick=decision.last_tick) == StartDecision(None, TEN)


def test_a_clock_that_went_back_starts_nothing_again() -> None:
    assert _decide(NINE, last_tick=TEN) == StartDecision(None, TEN)


def test_missed_starts_are_caught_up_once() -> None:
    late = TWELVE + timedelta(minutes=30)
    assert _decide(late, catch_up=True) == StartDecision(TWELVE, TWELVE)


def test_missed_starts_are_left_out_where_nobody_wants_them() -> None:
    late = TWELVE + timedelta(minutes=30)
    assert _decide(late) == StartDecision(None, TWELVE, left_out="late")
    assert _decide(TWELVE + SECOND) == StartDecision(TWELVE, TWELVE)


def test_a_start_may_be_as_late_as_a_new_leader() -> None:
    limit = TEN + timedelta(seconds=ON_TIME_SECONDS)
    assert _decide(limit).start == TEN
    assert _decide(limit + SECOND).start is None


def test_a_pause_lets_ticks_pass_for_good() -> None:
    assert _decide(TEN, paused=True, catch_up=True) == StartDecision(None, TEN, left_out="paused")
    assert _decide(TEN + SECOND, last_tick=TEN, catch_up=True).start is None


def test_a_start_that_waited_when_a_pause_began_waits_on() -> None:
    decision = _decide(ELEVEN, last_tick=TEN, overlap="queue", paused=True, waiting=TEN)
    assert decision == StartDecision(None, ELEVEN, TEN, "paused")


def test_skip_leaves_a_start_out_while_a_run_goes_on() -> None:
    assert _decide(TEN, is_running=True) == StartDecision(None, TEN, left_out="running")


def test_allow_starts_beside_a_run_that_goes_on() -> None:
    assert _decide(TEN, is_running=True, overlap="allow") == StartDecision(TEN, TEN)


def test_queue_keeps_one_start_until_the_run_is_over_however_late() -> None:
    waits = _decide(TEN, is_running=True, overlap="queue")
    assert waits == StartDecision(None, TEN, TEN)
    more = _decide(ELEVEN, last_tick=TEN, is_running=True, overlap="queue", waiting=TEN)
    assert more == StartDecision(None, ELEVEN, TEN, "running")
    over = _decide(ELEVEN + 5 * MINUTE, last_tick=ELEVEN, overlap="queue", waiting=TEN)
    assert over == StartDecision(TEN, ELEVEN)


def test_a_tick_takes_the_place_of_the_one_that_starts_after_waiting() -> None:
    decision = _decide(ELEVEN, last_tick=TEN, overlap="queue", waiting=TEN)
    assert decision == StartDecision(TEN, ELEVEN, ELEVEN)


def test_what_waited_is_dropped_when_the_policy_becomes_skip() -> None:
    assert _decide(TEN + SECOND, last_tick=TEN, waiting=TEN) == StartDecision(None, TEN)


@given(
    SCHEDULES,
    MOMENTS,
    st.lists(st.tuples(st.floats(0, 10**6), st.booleans(), st.booleans()), max_size=8),
    st.sampled_from(["skip", "queue", "allow"]),
    st.booleans(),
)
@settings(deadline=None)
def test_whatever_happens_every_tick_starts_at_most_once_and_none_before_its_time(
    schedule: Schedule,
    made: datetime,
    looks: list[tuple[float, bool, bool]],
    overlap: OverlapPolicy,
    catch_up: bool,
) -> None:
    started: list[datetime] = []
    now, last_tick, waiting = made, made, None
    for seconds, is_running, paused in looks:
        now += timedelta(seconds=seconds)
        decision = decide_starts(
            schedule,
            last_tick=last_tick,
            now=now,
            overlap=overlap,
            is_running=is_running,
            paused=paused,
            catch_up=catch_up,
            waiting=waiting,
        )
        assert last_tick <= decision.last_tick <= now
        last_tick, waiting = decision.last_tick, decision.waiting
        if decision.start is not None:
            assert made < decision.start <= now
            assert not paused
            assert not is_running or overlap == "allow"
            started.append(decision.start)
        # Who waits is started by a later look, never twice.
        assert waiting not in started
    assert started == sorted(set(started))
