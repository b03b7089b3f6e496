"""Limits of tasks: so many at once, so many a time, in the order of arrival."""

from shared.status import RunStatus
from tests.integration.limit_rig import LimitRig, crowd, limits, single
from tests.integration.limit_tasks import STAYS, most_at_once

__all__ = ["crowd", "limits"]


async def test_no_more_run_at_once_than_the_limit_says(limits: LimitRig) -> None:
    flow = single({"key": "k", "concurrency": 2})
    runs = [await limits.start(flow) for _ in range(8)]
    ended = await limits.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert len(STAYS) == 8
    assert most_at_once(STAYS) == 2


async def test_engines_that_race_for_one_key_never_pass_it(crowd: LimitRig) -> None:
    flow = single({"key": "k", "concurrency": 3}, params={"seconds": 0.01})
    runs = [await crowd.start(flow) for _ in range(60)]
    ended = await crowd.all_ended(runs)
    assert {run.status for run in ended} == {RunStatus.COMPLETED}
    assert len(STAYS) == 60
    assert most_at_once(STAYS) == 3
