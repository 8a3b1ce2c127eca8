#!/bin/sh
# Makes .venv (or $BLIP_REFINE_VENV) and installs blip_refine into it, from the package index alone.
#   sh scripts/environment.sh            what the demo needs
#   sh scripts/environment.sh dev        what the tests need, too
set -eu
cd "$(dirname "$0")/.."
venv="${BLIP_REFINE_VENV:-.venv}"

python=""
for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.10 python3 python; do
    [ -n "$candidate" ] || continue
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
        python="$candidate"
        break
    fi
done
if [ -z "$python" ]; then
    echo "Python 3.10 to 3.13 is needed and was not found. On Debian: apt-get install python3 python3-venv" >&2
    exit 2
fi

# Windows has Scripts where other systems have bin.
if [ ! -x "$venv/bin/python" ] && [ ! -x "$venv/Scripts/python.exe" ]; then
    if ! "$python" -m venv "$venv" 2>/dev/null; then
        rm -rf "$venv"
        echo "$python cannot make a virtual environment. On Debian: apt-get install python3-venv" >&2
        exit 2
    fi
fi

bin="$venv/bin"
[ -d "$bin" ] || bin="$venv/Scripts"

extras=""
[ "${1:-}" = dev ] && extras="[dev,metrics,openai,evaluate,grammar,language,apps,gguf,quant]"

# A second call has nothing to do: the stamp holds what was asked for.
wanted="$extras $(cksum pyproject.toml scripts/constraints.txt | tr '\n' ' ')"
stamp="$venv/.installed$( [ -n "$extras" ] && echo -dev || true )"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ]; then
    echo "Installing blip_refine$extras into $venv (a few minutes the first time) ..." >&2
    # Tested versions. torch first, and alone: it is the large one.
    "$bin/python" -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt torch
    "$bin/python" -m pip install --quiet --disable-pip-version-check -c scripts/constraints.txt -e ".$extras"
    echo "$wanted" > "$stamp"
fi
