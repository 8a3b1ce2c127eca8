#!/bin/sh
# Makes .venv (or $BLIP_REFINE_VENV) and installs blip_refine into it, from the package index alone.
#   sh scripts/environment.sh            what the demo needs
#   sh scripts/environment.sh dev        what the tests need, too
# The versions are those of scripts/lock.txt, which were tested. BLIP_REFINE_UNLOCKED=1 takes the newest that
# pyproject.toml allows instead. PYTHON names the interpreter to use.
set -eu
cd "$(dirname "$0")/.."
venv="${BLIP_REFINE_VENV:-.venv}"

fail() { echo "$1" >&2; exit 2; }

dev="[dev,metrics,openai,evaluate,grammar,language,apps,gguf,quant,co2]"
case "${1:-}" in
    "") extras="" ;;
    dev) extras="$dev" ;;
    *) fail "scripts/environment.sh takes no argument, or \"dev\"; not \"$1\"." ;;
esac
case "${BLIP_REFINE_UNLOCKED:-0}" in
    0) versions="lock" ;;
    1) versions="newest" ;;
    *) fail "BLIP_REFINE_UNLOCKED is 1 (the newest versions) or 0 (those of scripts/lock.txt), not \"$BLIP_REFINE_UNLOCKED\"." ;;
esac
[ "$versions" = newest ] || [ -f scripts/lock.txt ] ||
    fail "scripts/lock.txt is missing. Restore it, or set BLIP_REFINE_UNLOCKED=1 to install the newest versions."

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }

# Windows has Scripts where other systems have bin.
bin="$venv/bin"
[ ! -x "$venv/Scripts/python.exe" ] || bin="$venv/Scripts"

if [ -x "$bin/python" ]; then
    supported "$bin/python" ||
        fail "$venv holds a Python that does not run or is not 3.10 to 3.14. Remove it: rm -r $venv"
else
    python=""
    if [ -n "${PYTHON:-}" ]; then
        supported "$PYTHON" || fail "PYTHON names $PYTHON, which is not a Python 3.10 to 3.14."
        python="$PYTHON"
    fi
    for candidate in python3.11 python3.12 python3.13 python3.10 python3.14 python3 python; do
        [ -z "$python" ] || break
        if supported "$candidate"; then python="$candidate"; fi
    done
    [ -n "$python" ] ||
        fail "Python 3.10 to 3.14 is needed and was not found. On Debian: apt-get install python3 python3-venv"
    if ! "$python" -m venv "$venv" 2>/dev/null; then
        rm -rf "$venv"
        fail "$python cannot make a virtual environment. On Debian: apt-get install python3-venv"
    fi
    [ -d "$bin" ] || bin="$venv/Scripts"
fi

install() {
    if [ "$versions" = lock ]; then
        # By the environment, which reaches the build of this package, too. pip calls it one or the other by release.
        PIP_CONSTRAINT="${PIP_CONSTRAINT:+$PIP_CONSTRAINT }scripts/lock.txt" \
        PIP_BUILD_CONSTRAINT="${PIP_BUILD_CONSTRAINT:+$PIP_BUILD_CONSTRAINT }scripts/lock.txt" \
            "$bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    else
        "$bin/python" -m pip install --quiet --disable-pip-version-check \
            --upgrade --upgrade-strategy eager "$@"
    fi || fail "The $versions versions of blip_refine$extras could not be installed into $venv; pip says why above."
}

# A second call has nothing to do: the stamp holds what was asked for. What the tests need includes what the demo needs;
# to upgrade for the demo alone would pass over the bounds of the rest.
sums="$(cksum pyproject.toml scripts/lock.txt 2>/dev/null | tr '\n' ' ')"
wanted="$versions $extras $sums"
stamp="$venv/.installed$( [ -n "$extras" ] && echo -dev || true )"
if [ "$(cat "$stamp" 2>/dev/null || true)" != "$wanted" ] &&
    [ "$(cat "$venv/.installed-dev" 2>/dev/null || true)" != "$versions $dev $sums" ]; then
    echo "Installing blip_refine$extras ($versions) into $venv (a few minutes the first time) ..." >&2
    # Versions of the other kind are replaced, so what they were installed for is no longer there.
    for other in "$venv"/.installed*; do
        case "$(cat "$other" 2>/dev/null || true)" in "$versions "*) ;; *) rm -f "$other" ;; esac
    done
    # torch first, and alone: it is the large one.
    install torch
    install -e ".$extras"
    echo "$wanted" > "$stamp"
fi
