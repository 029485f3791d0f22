#!/bin/sh
# Makes or updates the virtual environment: environment.sh FOLDER LOCK STAMP.
# Says in a sentence what is missing when it cannot.
set -eu
folder=$1 lock=$2 stamp=$3

fail() { printf '%s\n' "$*" >&2; exit 1; }

python=${PYTHON:-}
if [ -z "$python" ]; then
    for candidate in python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
fi
[ -n "$python" ] || fail "Gatehouse needs Python 3.11. On Debian 12: apt install python3 python3-venv.
If it is elsewhere, name it: make run PYTHON=/path/to/python3.11"

if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            echo "Installing python3.11-venv ..."
            { apt-get update -qq && apt-get install -y -qq python3.11-venv; } >/dev/null \
                || fail "Could not install python3.11-venv. Run: apt install python3.11-venv"
        else
            fail "Python's venv module is missing. Run: sudo apt install python3.11-venv"
        fi
    fi
    echo "Making the virtual environment in $folder ..."
    "$python" -m venv "$folder"
fi

echo "Installing $lock (the first time takes a minute) ..."
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$lock" \
    || fail "The packages could not be installed; the lines above say why. Is a package index reachable?"
touch "$stamp"
