"""The OpenAPI document: ``python -m api.openapi --write docs/openapi.json``.

It is committed, so that a change of the interface shows in its review; ``--check`` fails where
the committed one is not the present one.
"""

import argparse
import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from api.describing import EXAMPLE

_REFERENCE = "#/components/schemas/{model}"

_TAGS = [
    {"name": "runs", "description": "Start runs, look at them, cancel them."},
    {"name": "definitions", "description": "Judge flow definitions, and store them."},
    {"name": "schedules", "description": "Start stored definitions by the clock."},
    {"name": "workers", "description": "Workers, task types and figures."},
    {"name": "webhooks", "description": "Who is told how runs end."},
    {"name": "health", "description": "For whatever watches over the service."},
]

_DESCRIPTION = (
    "Runs flows of tasks with conditions, parallel branches and joins. Errors are RFC 9457 "
    "problem details; times are RFC 3339 in UTC; lists are paged by `next_cursor`."
)


def describe(app: FastAPI) -> None:
    """Let ``app`` answer ``/openapi.json`` with :func:`build`."""
    kept: list[dict[str, Any]] = []

    def openapi() -> dict[str, Any]:
        if not kept:
            kept.append(build(app))
        return kept[0]

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents


def build(app: FastAPI) -> dict[str, Any]:
    """The document of the calls of ``app``."""
    # Late: the models take 10 MB, and most processes are never asked for this document.
    from api.definition_shapes import DEFINITION_SHAPES
    from api.schedule_shapes import SCHEDULE_SHAPES
    from api.shapes import SHAPES
    from api.simulation_shapes import SIMULATION_SHAPES
    from api.webhook_shapes import WEBHOOK_SHAPES

    shapes = (
        *SHAPES,
        *DEFINITION_SHAPES,
        *SCHEDULE_SHAPES,
        *SIMULATION_SHAPES,
        *WEBHOOK_SHAPES,
    )
    document = get_openapi(
        title="Flow Manager",
        version=version("flow-manager"),
        summary="Runs flows of tasks, and loses nothing.",
        description=_DESCRIPTION,
        tags=_TAGS,
        routes=app.routes,
    )
    _, definitions = models_json_schema(
        [(shape, "validation") for shape in shapes],
        ref_template=_REFERENCE,
    )
    schemas = dict(definitions["$defs"])
    schemas["SubmitAnswer"] = {
        "description": "The whole run where it ended, else what was accepted.",
        "anyOf": [{"$ref": _REFERENCE.format(model=name)} for name in ("Run", "AcceptedRun")],
    }
    document.setdefault("components", {})["schemas"] = dict(sorted(schemas.items()))
    _put_in_examples(document["paths"])
    return document


def _put_in_examples(node: object) -> None:
    if isinstance(node, dict):
        if EXAMPLE in node:
            node["example"] = json.loads(node.pop(EXAMPLE))
        for child in node.values():
            _put_in_examples(child)


def text_of(document: dict[str, Any]) -> bytes:
    """The document as it is committed, byte for byte what ``flow-manager openapi`` writes."""
    text = json.dumps(document, indent=2, ensure_ascii=True, sort_keys=True)
    return f"{text}\n".encode("ascii")


def main(arguments: list[str] | None = None) -> int:
    """Write, check or print the document; the exit status."""
    from api.main import create_app  # it imports this module

    parser = argparse.ArgumentParser(prog="python -m api.openapi", description=__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", type=Path, metavar="FILE", help="write the document there")
    action.add_argument("--check", type=Path, metavar="FILE", help="fail where FILE is another")
    chosen = parser.parse_args(arguments)
    text = text_of(create_app().openapi())
    if chosen.write is not None:
        chosen.write.parent.mkdir(parents=True, exist_ok=True)
        chosen.write.write_bytes(text)
    elif chosen.check is not None:
        if not chosen.check.exists() or chosen.check.read_bytes() != text:
            sys.stderr.write(f"{chosen.check} is out of date; write it anew with --write\n")
            return 1
    else:
        sys.stdout.write(text.decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
