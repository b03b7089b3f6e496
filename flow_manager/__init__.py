"""Flow Manager: what people import.

.. code-block:: python

    from flow_manager import BaseTask, TaskContext, task

Only what is used is loaded: a module of tasks does not pay for the HTTP client, and the
command's ``--help`` for neither.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flow_manager.async_client import AsyncFlowClient
    from flow_manager.client import FlowClient
    from shared.task_context import TaskContext
    from shared.tasks import BaseTask, Suspend, TaskResult, task

    __version__: str

__all__ = [
    "AsyncFlowClient",
    "BaseTask",
    "FlowClient",
    "Suspend",
    "TaskContext",
    "TaskResult",
    "__version__",
    "task",
]

_HOMES = {
    "AsyncFlowClient": "flow_manager.client",
    "BaseTask": "shared.tasks",
    "FlowClient": "flow_manager.client",
    "Suspend": "shared.tasks",
    "TaskContext": "shared.task_context",
    "TaskResult": "shared.tasks",
    "task": "shared.tasks",
}


def __getattr__(name: str) -> Any:
    """Load a public name where it is first used."""
    value: Any
    if name == "__version__":
        from importlib.metadata import version

        value = version("flow-manager")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
