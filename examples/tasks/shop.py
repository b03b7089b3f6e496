"""Tasks of ``order.json``: each one that takes something has another one that gives it back.

Shop, bank and courier are only pretended. A card that ends in ``0000`` is declined (an answer, so
a failure); an address that begins with ``Nowhere`` is one that no courier drives to (the courier
service breaks off, so an error). The bank is busy at the first attempt.
"""

from typing import Any

from flow_manager import TaskContext, task

DECLINED = "0000"
UNKNOWN_PLACE = "Nowhere"


class BankIsBusy(Exception):
    """Nothing is wrong that a moment would not mend."""


class NoCourier(Exception):
    """Nobody drives there."""


@task("reserve_stock")
async def reserve_stock(context: TaskContext, sku: str, quantity: int) -> dict[str, Any]:
    """Takes so many of an article out of the stock."""
    # The key is the same however often this visit is tried: a shop that knows it reserves once.
    reservation = f"{sku}:{context.idempotency_key[-12:]}"
    return {"success": True, "data": {"reservation": reservation, "quantity": quantity}}


@task("release_stock")
async def release_stock(context: TaskContext, reservation: str) -> dict[str, Any]:
    """Puts what was reserved back."""
    context.log.info("releasing %s", reservation)
    return {"success": True, "data": {"released": reservation}}


@task("charge_card")
async def charge_card(context: TaskContext, card: str, amount: float) -> dict[str, Any]:
    """Charges a card. A declined card is a failure, a busy bank an error."""
    if context.attempt == 1:
        raise BankIsBusy("the bank is busy")
    if card.endswith(DECLINED):
        return {"success": False, "data": {"declined": True, "amount": amount}}
    payment = f"payment:{context.idempotency_key[-12:]}"
    return {"success": True, "data": {"payment": payment, "amount": amount}}


@task("refund_card")
async def refund_card(context: TaskContext, payment: str, amount: float) -> dict[str, Any]:
    """Gives the money back."""
    context.log.info("refunding %s", payment)
    return {"success": True, "data": {"refunded": payment, "amount": amount}}


@task("book_courier")
async def book_courier(address: str) -> dict[str, Any]:
    """Has the parcel fetched."""
    if address.startswith(UNKNOWN_PLACE):
        raise NoCourier(f"no courier drives to {address}")
    return {"success": True, "data": {"pickup": f"today, for {address}"}}


@task("tell_customer")
async def tell_customer(context: TaskContext, order: str, text: str) -> dict[str, Any]:
    """Writes to the customer, whatever became of the order."""
    context.log.info("to the customer: your order %s %s", order, text)
    return {"success": True, "data": {"text": f"Your order {order} {text}."}}
