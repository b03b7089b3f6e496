"""The flows that the faults are tried on."""

from itertools import pairwise

from shared.task_context import Json


def chain(length: int, seconds: float = 0.0, *, slow: int | None = None) -> Json:
    """Tasks one after another; each, or only the one numbered ``slow``, takes ``seconds``."""
    names = [f"t{number}" for number in range(length)]
    return {
        "id": "chain",
        "start_task": "t0",
        "tasks": [
            {
                "name": name,
                "type": "mark",
                "params": {"seconds": seconds if slow in (None, number) else 0},
            }
            for number, name in enumerate(names)
        ],
        "conditions": [
            {"source_task": source, "target_task_success": target}
            for source, target in pairwise(names)
        ],
    }


def diamond(
    width: int, seconds: float = 0.0, types: tuple[str, ...] = ("mark",), frame: str = "mark"
) -> Json:
    """A fork into ``width`` tasks that one join follows, and one more task."""
    heads = [f"head{number}" for number in range(width)]
    return {
        "id": "diamond",
        "start_task": "begin",
        "tasks": [
            {"name": "begin", "type": frame},
            {"name": "join", "type": frame},
            {"name": "last", "type": frame},
            *(
                {"name": head, "type": types[i % len(types)], "params": {"seconds": seconds}}
                for i, head in enumerate(heads)
            ),
        ],
        "conditions": [
            {"source_task": "begin", "target_task_success": heads},
            *({"source_task": head, "target_task_success": "join"} for head in heads),
            {"source_task": "join", "target_task_success": "last"},
        ],
    }


def poison(kind: str = "kill_worker") -> Json:
    """A task that kills, or blocks, whoever runs it."""
    return {
        "id": "poison",
        "start_task": "kill",
        "tasks": [{"name": "kill", "type": kind}],
        "conditions": [],
    }


def saga(seconds: float = 0.0) -> Json:
    """Two tasks that are undone, each for ``seconds``, because the third one breaks; and a last
    one."""
    return {
        "id": "saga",
        "start_task": "book",
        "tasks": [
            {"name": "book", "type": "mark", "compensate": "unbook"},
            {"name": "pay", "type": "mark", "compensate": "refund"},
            {"name": "ship", "type": "fail"},
            {"name": "refund", "type": "mark", "params": {"seconds": seconds}},
            {"name": "unbook", "type": "mark", "params": {"seconds": seconds}},
            {"name": "tidy", "type": "mark"},
        ],
        "conditions": [
            {"source_task": "book", "target_task_success": "pay"},
            {"source_task": "pay", "target_task_success": "ship"},
        ],
        "finally": "tidy",
    }


def mapped(items: int, seconds: float = 0.0) -> Json:
    """A task that runs once an item, three at a time, each attempt tried again where its worker
    is lost or not; and one more task."""
    return {
        "id": "mapped",
        "start_task": "each",
        "tasks": [
            {
                "name": "each",
                "type": "mark",
                "for_each": str(list(range(items))),
                "concurrency": 3,
                "retry": 3,
                "params": {"seconds": seconds},
            },
            {"name": "last", "type": "mark"},
        ],
        "conditions": [{"source_task": "each", "target_task_success": "last"}],
    }


def in_turn(seconds: float = 0.0) -> Json:
    """A task that waits for its turn, two at a time of all runs, and then sleeps for a moment."""
    return {
        "id": "in-turn",
        "start_task": "turn",
        "tasks": [
            {
                "name": "turn",
                "type": "mark",
                "limit": {"key": "turns", "concurrency": 2},
                "params": {"seconds": seconds},
            },
            {"name": "nap", "type": "sleep", "params": {"for": 0.5}},
            {"name": "last", "type": "mark"},
        ],
        "conditions": [
            {"source_task": "turn", "target_task_success": "nap"},
            {"source_task": "nap", "target_task_success": "last"},
        ],
    }
