"""The pages that come with the service. They load nothing from anywhere else."""

from importlib.resources import files

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from shared.errors import NotFound

router = APIRouter(include_in_schema=False)

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def _load() -> dict[str, Response]:
    """The assets by name, read once: there are three, of a few KB."""
    folder = files("api") / "docs"
    return {
        asset.name: Response(
            asset.read_bytes(),
            media_type=_TYPES[asset.name.rpartition(".")[2]],
            headers=_HEADERS,
        )
        for asset in folder.iterdir()
        if asset.name.rpartition(".")[2] in _TYPES
    }


_ASSETS = _load()


@router.get("/", response_model=None)
async def root(_request: Request) -> Response:
    """Lead to what a person can read."""
    return RedirectResponse("docs")


@router.get("/docs", response_model=None)
async def documentation(_request: Request) -> Response:
    """The calls of this service, for people."""
    return _ASSETS["index.html"]


@router.get("/docs/{name}", response_model=None)
async def asset(request: Request) -> Response:
    """What the page consists of."""
    found = _ASSETS.get(request.path_params["name"])
    if found is None:
        raise NotFound("There is no such page.")
    return found
