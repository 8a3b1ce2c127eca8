#!/bin/sh
# All tests: makes their environment, then runs them. Further arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
sh scripts/environment.sh dev
HF_HUB_OFFLINE=1 exec "${BLIP_REFINE_VENV:-.venv}/bin/python" -m pytest "$@"
