"""Run a definition in a test: in memory, in a millisecond, without a service.

.. code-block:: python

    from flow_manager.testing import run_flow

    def test_a_refused_payment_is_mailed() -> None:
        run = run_flow(ORDER, input={"order": 17}, outcomes={"charge": False})
        assert run.path == ["check", "charge", "mail_refusal"]
        assert run.tasks["mail_refusal"].params == {"order": 17}

The rules are those of the workers, down to joins, retries, lists and expressions; time is a
clock of the run's own, so nothing waits. What tasks come to is told by ``outcomes``; tasks of
your own given as ``tasks`` are really run.
"""

from flow_manager.testing.outcomes import Items, Outcome
from flow_manager.testing.result import FlowRun, TaskRun
from flow_manager.testing.running import run_flow, run_flow_async

__all__ = ["FlowRun", "Items", "Outcome", "TaskRun", "run_flow", "run_flow_async"]
