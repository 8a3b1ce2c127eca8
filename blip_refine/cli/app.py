"""`blip-refine app`: a page, or an endpoint, where a captioner answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from .output import output
from .refine_options import (
    ApiKeyEnv,
    BaseUrl,
    Grounding,
    GuardNames,
    Instruction,
    Matching,
    MaxOutputTokens,
    Prices,
    ReasoningEffort,
    RefinerTemperature,
    SendImage,
    make_refiner,
    refiner_options,
    share_flags,
)

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def app(
    model: Annotated[str, typer.Argument(help="A folder, a model id of the Hub, or 'starter'.")] = "starter",
    compare: Annotated[list[str] | None, typer.Option(help="Another model to compare with; can be repeated.")] = None,
    refiner: Annotated[list[str] | None, typer.Option(help="A refiner to offer ('rules'); can be repeated.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0: everyone who reaches this machine.")] = LOOPBACK[0],
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Default: a free one from 7860 on; with --api 8000.")
    ] = None,
    password_env: Annotated[str | None, typer.Option(help="Environment variable with a password to ask for.")] = None,
    title: Annotated[str, typer.Option(help="Above the page.")] = "blip_refine",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    api: Annotated[bool, typer.Option("--api", help="Serve POST /caption for programs instead of a page.")] = False,
    instruction: Instruction = None,
    max_output_tokens: MaxOutputTokens = None,
    refiner_temperature: RefinerTemperature = None,
    reasoning_effort: ReasoningEffort = None,
    send_image: SendImage = False,
    guards: GuardNames = None,
    grounding: Grounding = None,
    matching: Matching = None,
    base_url: BaseUrl = None,
    api_key_env: ApiKeyEnv = None,
    prices: Prices = None,
) -> None:
    """Serve a page where people caption pictures, or with --api an endpoint for programs."""
    options = refiner_options(locals())
    from .libraries import quieten_libraries

    share_flags(refiner or [], options)
    quieten_libraries()
    if api:
        return _serve_api(model, compare, refiner, host, port, password_env, options)
    import os

    from ..apps.captioners import Captioners
    from ..apps.demo import build_app, launch_app
    from ..apps.gradio_page import end_in_order
    from ..errors import ConfigurationError

    password = None
    if password_env is not None:
        password = os.environ.get(password_env)
        if not password:
            raise ConfigurationError(f"The environment variable {password_env} is not set: it must hold the password.")
    if host not in LOOPBACK and password is None:
        output.warning(f"Everyone who can reach {host} can use this page; --password-env NAME asks for a password.")
    models = [model, *(compare or [])]
    desk = Captioners(models, refiner, refiner_options=options) if refiner else Captioners(models)
    desk.check_refiners()
    for name in desk.models:
        output.note(f"Loading {name} ...")
        desk.load(name)
    end_in_order()
    page = build_app(title=title, captioners=desk)
    url = launch_app(page, host=host, port=port, password=password, open_browser=open_page, block=False)
    output.line(f"Page: {url}   (Ctrl-C ends it)")
    output.result({"url": url, "models": list(desk.models)})
    page.block_thread()


def _serve_api(
    model: str,
    compare: list[str] | None,
    refiner: list[str] | None,
    host: str,
    port: int | None,
    password_env: str | None,
    options: Mapping[str, Any],
) -> None:
    from ..apps.api import ApiLimits, create_api
    from ..apps.server import make_server
    from ..errors import ConfigurationError
    from ..pipeline import CaptionPipeline
    from ..refine.safety import require_working

    if compare or password_env or len(refiner or []) > 1:
        raise ConfigurationError("With --api there is one model, at most one --refiner, and no password.")
    if host not in LOOPBACK:
        output.warning(f"Everyone who can reach {host} can use this endpoint: it asks nobody who they are.")
    chosen = make_refiner(refiner[0] if refiner else None, options)
    require_working(chosen)
    pipeline = CaptionPipeline.from_pretrained(model, refiner=chosen)
    limits, port = ApiLimits(), port or 8000
    server = make_server(
        create_api(pipeline, limits, check_refiner=False),
        host=host,
        port=port,
        header_timeout=limits.header_timeout,
        max_connections=limits.max_connections,
    )
    output.line(f"Endpoint: http://{host}:{port}/caption   (Ctrl-C ends it)")
    output.result({"url": f"http://{host}:{port}", "model": model})
    server.run()
