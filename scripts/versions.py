"""What this environment holds of blip_refine's direct dependencies: `python scripts/versions.py [--json] [NAME]`.

One line: `NAME python==3.11.7 accelerate==1.15.0 ...`, or a JSON object with the keys `environment` (NAME), `python`,
`platform` and `packages`. Extras that are not installed are left out.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version


def installed_versions() -> dict[str, str]:
    """Version by name of every direct dependency that is installed, those of extras included."""
    found = {}
    for requirement in requires("blip_refine") or ():
        name = re.match(r"[\w.-]+", requirement).group()
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def main() -> None:
    names = [argument for argument in sys.argv[1:] if argument != "--json"]
    if len(names) > 1 or any(name.startswith("-") for name in names):
        sys.exit("Usage: python scripts/versions.py [--json] [NAME]")
    environment = names[0] if names else "this"
    packages = installed_versions()
    if "--json" in sys.argv:
        found = {"environment": environment, "python": platform.python_version(), "platform": platform.platform()}
        print(json.dumps({**found, "packages": packages}))
    else:
        pins = [f"{name}=={value}" for name, value in {"python": platform.python_version(), **packages}.items()]
        print(environment, *pins)


if __name__ == "__main__":
    main()
