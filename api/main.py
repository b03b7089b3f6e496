"""The HTTP application: its parts put together.

Started by ``python -m api.server`` or by any ASGI server, as the factory
``api.main:create_app``.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException

from api.border import RequestBorder
from api.openapi import describe
from api.problems import on_error, on_http_error, on_invalid_parameters
from api.resources import open_resources
from api.routes import (
    definitions,
    explain,
    health,
    pages,
    rerunning,
    runs,
    schedules,
    signals,
    simulating,
    submitting,
    validation,
    webhooks,
    workers,
)
from shared.errors import FlowManagerError
from shared.settings import Settings, load_settings

_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}

GUARDED_ROUTERS = (
    submitting.router,
    validation.router,
    simulating.router,
    definitions.router,
    schedules.router,
    runs.router,
    rerunning.router,
    explain.router,
    signals.router,
    workers.router,
    webhooks.router,
)
"""What only who may shall call: whatever guards them is a dependency of the router, so that no
rule about paths has to know them."""

OPEN_ROUTERS = (health.router, pages.router)
"""What everybody may call."""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; without ``settings`` by those of the environment.

    Raises:
        InvalidSettings: the environment's do not hold together.
    """
    settings = settings or load_settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(settings) as resources:
            app.state.resources = resources
            yield

    app = FastAPI(
        lifespan=lifespan,
        telemetry=_NO_TELEMETRY,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.add_exception_handler(FlowManagerError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_parameters)
    app.add_middleware(RequestBorder, timeout_seconds=settings.request_timeout_seconds)
    for router in (*GUARDED_ROUTERS, *OPEN_ROUTERS):
        app.include_router(router)
    describe(app)
    return app
