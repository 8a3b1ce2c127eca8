"""`blip-refine app`: a page, or an endpoint, where a captioner answers."""

from __future__ import annotations

from typing import Annotated

import typer

from .output import output

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def app(
    model: Annotated[str, typer.Argument(help="A folder, a model id of the Hub, or 'starter'.")] = "starter",
    compare: Annotated[list[str] | None, typer.Option(help="Another model to compare with; can be repeated.")] = None,
    refiner: Annotated[list[str] | None, typer.Option(help="A refiner to offer ('rules'); can be repeated.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0: everyone who reaches this machine.")] = LOOPBACK[0],
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="By default a free one from 7860 on.")] = None,
    password_env: Annotated[str | None, typer.Option(help="Environment variable with a password to ask for.")] = None,
    title: Annotated[str, typer.Option(help="Above the page.")] = "blip_refine",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a page where people caption pictures."""
    import os

    from ..apps.captioners import Captioners
    from ..apps.demo import build_app, launch_app
    from ..errors import ConfigurationError

    password = None
    if password_env is not None:
        password = os.environ.get(password_env)
        if not password:
            raise ConfigurationError(f"The environment variable {password_env} is not set: it must hold the password.")
    if host not in LOOPBACK and password is None:
        output.warning(f"Everyone who can reach {host} can use this page; --password-env NAME asks for a password.")
    models = [model, *(compare or [])]
    desk = Captioners(models, refiner) if refiner else Captioners(models)
    for name in desk.models:
        output.note(f"Loading {name} ...")
        desk.load(name)
    page = build_app(title=title, captioners=desk)
    url = launch_app(page, host=host, port=port, password=password, open_browser=open_page, block=False)
    output.line(f"Page: {url}   (Ctrl-C ends it)")
    output.result({"url": url, "models": list(desk.models)})
    page.block_thread()
