#!/usr/bin/env bash
# Creates the virtual environment $1 with exactly the packages of requirements.lock.
# Needs only Python 3.11 or newer. Uses uv if it is installed, otherwise installs it into $1.
set -euo pipefail
venv=$1
unset PYTHONDONTWRITEBYTECODE VIRTUAL_ENV

find_python() {
    local name
    for name in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        if [ -n "$name" ] && "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "setup: Python 3.11 or newer was not found; install it, or run: PYTHON=/path/to/python make setup" >&2
    return 1
}

# Installs uv with the version and hashes in requirements.lock, like every other package.
install_uv() {
    local wanted
    wanted=$(mktemp)
    # the line `uv==...` and its continuation lines
    awk '/^uv==/ { found = 1 } found { print; if (!/\\$/) exit }' requirements.lock > "$wanted"
    if grep -q -e '--hash=sha256:' "$wanted"; then
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement "$wanted"
    fi
    rm -f "$wanted"
}

echo "setup: creating $venv (about 6 GB; a minute or more, depending on the network)"
if [ ! -x "$venv/bin/python" ]; then
    python=$(find_python)
    "$python" -m venv "$venv" || {
        rm -rf "$venv"
        echo "setup: '$python -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    }
fi

if command -v uv >/dev/null && [ "$(command -v uv)" != "$PWD/$venv/bin/uv" ]; then
    uv=uv
else
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip --upgrade >/dev/null
    install_uv || true
    uv=$venv/bin/uv
fi

if "$uv" --version >/dev/null 2>&1; then
    export VIRTUAL_ENV=$PWD/$venv
    "$uv" pip sync --quiet --require-hashes --compile-bytecode requirements.lock
    "$uv" pip install --quiet --no-deps --no-build-isolation --editable .
else
    echo "setup: uv is not available for this platform; pip takes a few minutes"
    "$venv/bin/python" -m pip install --quiet --require-hashes --requirement requirements.lock
    "$venv/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
fi
"$venv/bin/python" -m compileall -q src stages
echo "setup: done"
