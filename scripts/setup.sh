#!/bin/sh
# Makes the virtual environment .venv with the exact versions of requirements.lock.
set -eu
cd "$(dirname "$0")/.."

# The first of these that is new enough.
find_python() {
    for candidate in "${PYTHON:-python3}" python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "CitySort needs Python 3.10 or later: install it, or name it with PYTHON=/path/to/python3." >&2
    exit 1
}

make_venv() {
    rm -rf .venv
    "$python" -m venv .venv >/dev/null 2>&1
}

python=$(find_python)
if ! make_venv; then
    # Debian and Ubuntu keep the venv module in a package of its own.
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    sh scripts/install-packages.sh "python$version-venv" ||
        sh scripts/install-packages.sh python3-venv || true
    make_venv || {
        echo "'$python -m venv' does not work: install the package python$version-venv, then run make again." >&2
        exit 1
    }
fi

echo "Installing the pinned packages into .venv (about a minute) ..."
pip="$PWD/.venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install --requirement requirements.lock
$pip install --no-deps --no-build-isolation --editable .
touch .venv/.installed
