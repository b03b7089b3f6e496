"""Sources of ``report.json`` and ``region-sales.json``; their figures are made up of the week."""

from typing import Any

from flow_manager import task


@task("list_orders")
async def list_orders(region: str, week: int) -> dict[str, Any]:
    """The orders of a region in a week."""
    orders = [{"id": f"{region}-{week}-{n}", "amount": len(region) * n} for n in range(1, 4)]
    return {"success": True, "data": {"orders": orders}}


@task("count_tickets")
async def count_tickets(week: int) -> dict[str, Any]:
    """How many tickets are open."""
    return {"success": True, "data": {"open": 3 * week}}


@task("count_visits")
async def count_visits(week: int, available: bool = True) -> dict[str, Any]:
    """How many people looked at the site. A failure while the counter is away."""
    return {"success": available, "data": {"visits": 1_000 + week} if available else {}}
