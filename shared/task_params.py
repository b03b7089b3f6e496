"""A task's params, read by the model of its type."""

import orjson
from pydantic import ValidationError

from shared.errors import InvalidParams
from shared.task_context import Json
from shared.tasks import BaseTask


def read_params(task: type[BaseTask], params: Json) -> Json:
    """``params`` as the task sees them: an instance of its ``Params``, where it has a model.

    Raises:
        InvalidParams: they do not fit; the message names each field.
    """
    given = {} if params is None else params
    if task.Params is None:
        return given
    try:
        # As JSON, which they are: a strict model then still takes a date from its text.
        return task.Params.model_validate_json(orjson.dumps(given))
    except ValidationError as error:
        raise InvalidParams(_describe(error)) from None


def _describe(error: ValidationError) -> str:
    """Each field that does not fit and why, without the values: they may be secrets."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [
        ".".join(["params", *map(str, one["loc"])])
        + ": "
        + one["msg"].removeprefix("Value error, ")
        for one in found[:20]
    ]
    more = f"; and {len(found) - 20} more" if len(found) > 20 else ""
    return "; ".join(lines) + more
