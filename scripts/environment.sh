#!/bin/sh
# Makes or updates the virtual environment: environment.sh FOLDER LOCK STAMP.
# Says in a sentence what is missing when it cannot.
set -eu
folder=$1 lock=$2 stamp=$3

fail() { printf '%s\n' "$*" >&2; exit 1; }

is_python_311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

# Built with profile-guided optimisation: a call costs an eighth less. A distribution's own Python is, and does not say so.
is_fast() {
    [ "$1" = /usr/bin/python3.11 ] || "$1" -c 'import sys, sysconfig
sys.exit("--enable-optimizations" not in (sysconfig.get_config_var("CONFIG_ARGS") or ""))'
}

has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Debian packs venv apart from its own Python; for any other nothing can be installed.
install_venv() {
    [ "$1" = /usr/bin/python3.11 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    echo "Installing python3.11-venv ..."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3.11-venv; } >/dev/null
}

choose_python() {
    candidates=
    for candidate in python3.11 /usr/bin/python3.11 python3; do
        path=$(command -v "$candidate") || continue
        if is_python_311 "$path"; then candidates="$candidates $path"; fi
    done
    [ -n "$candidates" ] || fail "Gatehouse needs Python 3.11. On Debian 12: apt install python3 python3-venv.
If it is elsewhere, name it: make run PYTHON=/path/to/python3.11"
    for python in $candidates; do
        if is_fast "$python" && { has_venv "$python" || install_venv "$python"; }; then return; fi
    done
    for python in $candidates; do
        if has_venv "$python"; then return; fi
    done
    fail "Python's venv module is missing. Run: sudo apt install python3.11-venv"
}

if ! "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
    python=${PYTHON:-}
    if [ -z "$python" ]; then
        choose_python
    elif ! has_venv "$python" && ! install_venv "$(command -v "$python")"; then
        fail "$python has no venv module. On Debian: sudo apt install python3.11-venv"
    fi
    echo "Making the virtual environment in $folder with $python ..."
    "$python" -m venv "$folder"
fi

echo "Installing $lock (the first time takes a minute) ..."
"$folder/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$lock" \
    || fail "The packages could not be installed; the lines above say why. Is a package index reachable?"
touch "$stamp"
