"""What a flow's ``concurrency`` has made of a run that was to be created."""

from api.resources import Resources
from shared.errors import ConcurrencyReached
from shared.store.runs import CreatedRun


def admit(resources: Resources, created: CreatedRun) -> None:
    """Tell of the runs that were cancelled for the new one.

    Raises:
        ConcurrencyReached: it was refused.
    """
    if created.refused_for is not None:
        raise ConcurrencyReached(
            f"The flow refuses another run while {created.refused_for} goes on.",
            created.refused_for,
        )
    if created.cancelled:
        resources.publisher.cancelled(created.cancelled)
        resources.publisher.run_ended(created.cancelled)
