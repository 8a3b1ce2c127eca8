#!/bin/sh
# All tests, two files at a time: makes their environment, then runs them. Further arguments go to pytest ("-n 0" for
# one after the other, in this process).
set -eu
cd "$(dirname "$0")/.."
sh scripts/environment.sh dev
HF_HUB_OFFLINE=1 exec "${BLIP_REFINE_VENV:-.venv}/bin/python" -m pytest -n 2 --dist loadfile "$@"
