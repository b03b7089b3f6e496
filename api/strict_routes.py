"""Routes that refuse query parameters they do not know.

Without it ``?statsu=failed`` would list runs of every status, and the caller would never know.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.refusals import InvalidRequest
from shared.errors import Finding
from shared.findings import nearest_names, quoted

_MAX_TOLD = 20


class _StrictRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        known = {field.alias for field in self.dependant.query_params}
        # Those that a call reads by itself are in what the document says of it.
        told = (self.openapi_extra or {}).get("parameters", [])
        known |= {one["name"] for one in told if one["in"] == "query"}

        async def handle_if_known(request: Request) -> Response:
            # Most calls have none: they pay for this look only.
            if request.scope["query_string"]:
                _refuse_others(request, sorted(known))
            return await handle(request)

        return handle_if_known


def strict_router() -> APIRouter:
    """A router for calls of the API.

    Its calls raise :class:`~api.refusals.InvalidRequest` for query parameters beyond theirs.
    """
    return APIRouter(route_class=_StrictRoute)


def _refuse_others(request: Request, known: list[str]) -> None:
    unknown = [name for name in request.query_params if name not in known]
    if unknown:
        raise InvalidRequest([_finding(name, known) for name in unknown[:_MAX_TOLD]])


def _finding(name: str, known: list[str]) -> Finding:
    nearest = nearest_names(name, known)
    shown = quoted(name)
    return Finding(
        f"/query/{shown[1:-1]}",
        "unknown_parameter",
        f"there is no query parameter {shown} here",
        f"did you mean {quoted(nearest[0])}?" if nearest else None,
    )
