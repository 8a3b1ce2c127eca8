"""How long a person waits before anything happens: `import blip_refine`, and `blip-refine --help`.

    python benchmarks/startup.py [--output benchmarks/results/startup.json]

Median of several fresh processes, the start of Python itself included and also shown alone. There is no stock way to
compare with; `import transformers` stands beside it as what a library of this field usually costs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = {
    "python itself": [sys.executable, "-c", "pass"],
    "import blip_refine": [sys.executable, "-c", "import blip_refine"],
    "blip-refine --help": [sys.executable, "-m", "blip_refine", "--help"],
    "import transformers": [sys.executable, "-c", "import transformers"],
}


def seconds(command: list[str], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - began)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    rows = {}
    for name, command in CASES.items():
        seconds(command, 1)
        rows[name] = round(statistics.median(seconds(command, arguments.repeats)), 3)
        print(f"{name:22} {rows[name]:.3f} s")
    if arguments.output:
        machine = f"{os.cpu_count()} CPU cores, {platform.machine()}, Python {platform.python_version()}"
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps({"machine": machine, "seconds": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
