"""The tools of ``agent.json``. What a tool cannot do, it says: the model reads it and goes on."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from flow_manager import task

FACTS = {"lisbon": "Lisbon has 567131 inhabitants", "porto": "Porto has 248769 inhabitants"}

SIGNS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
}


@task("search")
async def search(words: str) -> dict[str, Any]:
    """Looks something up."""
    found = [fact for word, fact in FACTS.items() if word in words.lower()]
    return {"success": bool(found), "data": {"found": found}}


@task("calculate")
async def calculate(left: float, sign: Literal["+", "-", "*", "/"], right: float) -> dict[str, Any]:
    """Calculates with two numbers; nothing that comes from a model is ever evaluated as code."""
    if sign == "/" and right == 0:
        return {"success": False, "data": {"problem": "a division by zero"}}
    return {"success": True, "data": {"result": SIGNS[sign](left, right)}}
