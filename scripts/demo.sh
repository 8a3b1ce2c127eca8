#!/bin/sh
# The main job on the embedded default: makes its environment, then fine-tunes, measures, refines and reports.
set -eu
cd "$(dirname "$0")/.."
sh scripts/environment.sh
bin="${BLIP_REFINE_VENV:-.venv}/bin"
[ -d "$bin" ] || bin="${BLIP_REFINE_VENV:-.venv}/Scripts"  # Windows
HF_HUB_OFFLINE=1 exec "$bin/blip-refine" demo --output run "$@"
