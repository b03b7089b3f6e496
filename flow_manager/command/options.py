"""Options that several commands share, and every setting as an option.

``--lease-seconds 6`` is ``FLOW_LEASE_SECONDS=6``: the names come from the one settings class,
so that a new setting is an option without a line here.
"""

import difflib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from shared.errors import InvalidSettings

if TYPE_CHECKING:
    from flow_manager.client import FlowClient
    from shared.settings import Settings

URL = typer.Option(
    "http://127.0.0.1:8000", "--url", envvar="FLOW_URL", help="Where the service is."
)
API_KEY = typer.Option(
    None,
    "--api-key",
    envvar="FLOW_API_KEY",
    show_default=False,
    help="Bearer token for what stands in front.",
)
AS_JSON = typer.Option(False, "--json", help="Print JSON instead.")


def connect(url: str, api_key: str | None) -> "FlowClient":
    """A client of the service at that address."""
    from flow_manager.client import FlowClient

    return FlowClient(url, api_key=api_key)


def read_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """The settings among the options that a command does not know itself.

    Raises:
        InvalidSettings: for an option that is no setting, or one without a value.
    """
    if not arguments:
        return {}
    from shared.settings import Settings

    overrides: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        flag, has_value, value = option.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in Settings.model_fields:
            near = difflib.get_close_matches(name, Settings.model_fields, n=1)
            hint = f"; did you mean --{near[0].replace('_', '-')}?" if near else ""
            raise InvalidSettings(f"there is no option {flag}{hint}")
        if not has_value:
            if not rest:
                raise InvalidSettings(f"option {flag} needs a value")
            value = rest.pop(0)
        overrides[name] = value
    return overrides


def settings_of(context: typer.Context, **overrides: object) -> "Settings":
    """The settings of a command: its options before the environment."""
    from shared.settings import load_settings

    given = {name: value for name, value in overrides.items() if value is not None}
    return load_settings(**read_overrides(context.args), **given)


def environment_with(overrides: dict[str, str]) -> dict[str, str]:
    """The environment for a process that is to have these settings.

    Raises:
        InvalidSettings: for values that cannot be used.
    """
    if overrides:
        from shared.settings import load_settings

        load_settings(**overrides)
    return dict(os.environ) | {f"FLOW_{name.upper()}": value for name, value in overrides.items()}
