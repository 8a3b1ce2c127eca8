"""Where this package is installed from."""

from __future__ import annotations

REPOSITORY = "https://github.com/blip-refine/blip_refine"
"""The source repository, as `[project.urls]` of the package's metadata names it."""


def install_command(extra: str | None = None) -> str:
    """The command that installs this package.

    Args:
        extra (`str`, *optional*): An extra to install with it, such as `"metrics"`.

    Returns:
        `str`: A command line for any shell: cmd.exe knows double quotes alone.
    """
    name = f"blip_refine[{extra}]" if extra else "blip_refine"
    return f'pip install "{name} @ git+{REPOSITORY}"'
