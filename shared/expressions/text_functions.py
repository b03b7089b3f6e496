"""The functions about text. Each pays for the length of what it makes before it makes it."""

from shared.expressions.budget import Json, shape_of
from shared.expressions.calls import Call, text_of
from shared.expressions.operations import search_cost


def to_text(call: Call) -> Json:
    """``str``: texts as they are, everything else as JSON."""
    return text_of(call.arguments[0], call.budget, call.part)


def to_lower(call: Call) -> Json:
    """``lower``: in small letters."""
    return _cased(call).lower()


def to_upper(call: Call) -> Json:
    """``upper``: in capital letters."""
    return _cased(call).upper()


def _cased(call: Call) -> str:
    """The text, charged for letters that become several and for those beyond ASCII."""
    text: str = call.take(0, str)
    if text.isascii():
        call.budget.build_text(len(text), call.part)
    else:
        call.budget.work(len(text) // 4, call.part)
        call.budget.build_text(len(text) * 3, call.part)
    return text


def split_text(call: Call) -> Json:
    """``split``: the pieces between separators, or the words."""
    text = call.take(0, str)
    separator = call.take(1, str) if len(call.arguments) > 1 else None
    if separator == "":
        raise call.fail("needs a separator that is not empty")
    if separator is None:
        call.budget.work(len(text) // 8, call.part)
        pieces = len(text) // 2 + 1
    else:
        call.budget.work(2 * search_cost(separator, text), call.part)
        pieces = text.count(separator) + 1
    call.budget.build_places(pieces, call.part)
    call.budget.build_text(len(text), call.part)
    return text.split(separator)


def join_texts(call: Call) -> Json:
    """``join``: one text of many."""
    items = call.take(0, list)
    separator = call.take(1, str) if len(call.arguments) > 1 else ""
    call.budget.work(len(items) // 2, call.part)
    odd = set(map(type, items)) - {str}
    if odd:
        raise call.fail(f"needs a list of text; it holds {shape_of(odd.pop())}")
    length = sum(map(len, items)) + len(separator) * max(len(items) - 1, 0)
    call.budget.build_text(length, call.part)
    return separator.join(items)
