#!/bin/sh
# Makes scripts/lock.txt and scripts/oldest.txt anew from pyproject.toml. uv does it (pip install uv; $UV names another).
#   scripts/lock.txt     the newest of everything, for every supported Python and platform: what the README installs
#   scripts/oldest.txt   direct dependencies at the lower bounds of pyproject.toml, for Python 3.11 on Linux
# Neither file holds a hash, an index or a path: any build of a version is welcome, a local CPU wheel of torch, too.
set -eu
cd "$(dirname "$0")/.."
uv="${UV:-uv}"
if ! "$uv" --version >/dev/null 2>&1; then
    echo "uv is needed to make the lock and was not found. Install it: pip install uv" >&2
    exit 2
fi
made="$(mktemp -d)"
trap 'rm -rf "$made"' EXIT

# torch stays at the release that the benchmarks and the golden captions were made with: sums in another order are
# other digits, and its CPU wheel for continuous integration is of this version.
echo "torch==2.13.0" > "$made/held.txt"
# What builds this package: pip takes it from the index, too, when it installs from a folder.
printf 'hatchling\neditables\n' > "$made/build.txt"

compile() { "$uv" pip compile --quiet --no-config --no-header --no-annotate "$@" >/dev/null; }

compile --universal --python-version 3.10 --all-extras -c "$made/held.txt" -o "$made/lock.txt" \
    pyproject.toml "$made/build.txt"
# datasets 4.0 is older than pandas 3, whose text columns it does not know, and sets no bound.
echo "pandas<3" > "$made/older.txt"
compile --resolution lowest-direct --python-version 3.11 --python-platform x86_64-manylinux_2_28 --all-extras \
    -c "$made/older.txt" -o "$made/oldest.txt" pyproject.toml

# Wheels of all of it must be there, or a clone compiles for hours and fails.
for python in 3.10 3.11 3.12 3.13 3.14; do
    for platform in x86_64-manylinux_2_28 aarch64-manylinux_2_28 aarch64-apple-darwin x86_64-pc-windows-msvc; do
        MACOSX_DEPLOYMENT_TARGET=14.0 compile --python-version "$python" --python-platform "$platform" \
            --only-binary :all: --all-extras -c "$made/lock.txt" -o "$made/check.txt" pyproject.toml
        echo "Python $python on $platform: every wheel is there"
    done
done

write() {  # FILE FIRST_LINE
    { echo "# $2"; echo "# Made by \`make lock\`; not edited by hand."; cat "$made/$1"; } > "scripts/$1"
    echo "scripts/$1: $(grep -vc '^#' "scripts/$1") lines"
}
write lock.txt "Every version that the README's commands install, on Python 3.10 to 3.14."
write oldest.txt "The oldest supported releases: Python 3.11 on Linux, direct dependencies at the bounds of pyproject.toml."
