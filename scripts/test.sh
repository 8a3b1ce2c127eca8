#!/bin/sh
# All tests, two files at a time: makes their environment, then runs them. Further arguments go to pytest ("-n 0" for
# one after the other, in this process).
set -eu
cd "$(dirname "$0")/.."
sh scripts/environment.sh dev
# One thread each: two processes that both wait for two threads on two cores take twice as long.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
bin="${BLIP_REFINE_VENV:-.venv}/bin"
[ -d "$bin" ] || bin="${BLIP_REFINE_VENV:-.venv}/Scripts"  # Windows
HF_HUB_OFFLINE=1 exec "$bin/python" -m pytest -n 2 --dist loadfile "$@"
