"""`blip-refine`: the commands put together, and the one place that turns errors into messages and exit codes.

Exit codes: 0 done; 1 a fault of this program; 2 something the user can put right; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer

from .. import __version__
from ..data.source_options import OPTION_NAMES
from ..errors import BlipRefineError
from .output import output

COMMANDS = (
    "demo",
    "doctor",
    "convert",
    "fetch",
    "prepare",
    "train",
    "evaluate",
    "caption",
    "score",
    "refine",
    "compare",
    "ablate",
    "rate",
    "report",
    "push",
    "app",
)
"""The files of this folder that hold a command, in the order of `--help`. Each defines a function of its name."""

GLOBAL_FLAGS = {
    "--debug": "Show the traceback of an error.",
    "--json": "Print the result as one JSON object.",
    "--quiet": "No notes and no progress bars.",
}


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"blip_refine {__version__}")
        raise typer.Exit


def build_app() -> typer.Typer:
    """The Typer application with every command registered. No command imports torch before it runs."""
    app = typer.Typer(
        name="blip-refine",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Fine-tune BLIP on your own images, refine the captions, prove that it helped, publish.",
        epilog="Everywhere: " + " ".join(f"{flag}: {text}" for flag, text in GLOBAL_FLAGS.items()),
    )

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="The version."),
    ) -> None:
        pass

    for name in COMMANDS:
        module = import_module(f".{name}", __package__)
        settings = getattr(module, "CONTEXT_SETTINGS", {})
        app.command(name, context_settings=settings)(getattr(module, name))
    return app


def _take_global_flags(arguments: Sequence[str]) -> tuple[list[str], set[str]]:
    """Global flags may stand before or after the command, as people type them; after `--` all is the command's."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = {argument for argument in arguments[:end] if argument in GLOBAL_FLAGS}
    kept = [argument for argument in arguments[:end] if argument not in GLOBAL_FLAGS]
    return kept + list(arguments[end:]), flags


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command line and exit the process.

    Args:
        arguments (`Sequence[str]`, *optional*): Defaults to `sys.argv[1:]`.
    """
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal's encoding does not have must not end a run of hours.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")
    arguments, flags = _take_global_flags(list(sys.argv[1:] if arguments is None else arguments))
    output.json_mode, output.quiet = "--json" in flags, "--quiet" in flags
    app = build_app()
    try:
        app(args=arguments, prog_name="blip-refine", standalone_mode=True)
    except BlipRefineError as error:
        _fail(error, f"Error: {_with_flags(error, app, arguments)}", error.exit_code, flags)
    except KeyboardInterrupt as error:
        _fail(error, "Stopped.", 130, flags)
    except BrokenPipeError:
        # The reader of a pipe (head, less) has gone; what is left to print has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        text = f"Unexpected {type(error).__name__}: {error}\nRun the same command with --debug for the traceback."
        _fail(error, text, 1, flags)


def _with_flags(error: BlipRefineError, app: typer.Typer, arguments: Sequence[str]) -> str:
    """The error's sentence with the flags of the command that was called in place of Python's arguments."""
    if not error.arguments or not arguments:
        return str(error)
    command: Any = typer.main.get_command(app)
    known = {one.name: one for one in getattr(command.commands.get(arguments[0]), "params", ())}

    def spell(name: str, value: str | None) -> str:
        # `train` and a Hub dataset both have a "config": beside --option, only these are flags of the data.
        is_flag = "option" not in known or name in (*OPTION_NAMES, "split", "images")
        if is_flag and name in known and known[name].opts:
            if value == "...":
                value = known[name].metavar or "VALUE"
            elif value is not None:  # {'train': 0.9, 'test': 0.1} is typed as train=0.9,test=0.1
                value = value.strip("{}").replace("'", "").replace(": ", "=").replace(", ", ",")
            return " ".join(filter(None, (max(known[name].opts, key=len), value)))
        # What has no flag of its own is an option of the source.
        return f"--option {name}=..." if "option" in known else f"{name}={value or ''}"

    return error.spelled(spell)


def _fail(error: BaseException, text: str, code: int, flags: set[str]) -> None:
    if "--debug" in flags:
        raise error
    sys.stderr.write(text + "\n")
    sys.exit(code)
