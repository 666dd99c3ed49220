#!/bin/sh
# Makes .venv exactly as requirements.lock says. `make` calls it when the lock changed; running it again is harmless.
set -eu
python=${PYTHON:-python3}

fail() {
    echo "error: $1" >&2
    exit 2
}

# need_system "<check>" <package> "<what it is for>": installs a system package where that is allowed, else says how.
need_system() {
    eval "$1" >/dev/null 2>&1 && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing the system package $2 ($3)"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" || true
        eval "$1" >/dev/null 2>&1 && return
    fi
    fail "$3 needs the system package $2; install it (sudo apt-get install $2) and run make again."
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "Python 3.11 or newer is needed, $python is $("$python" --version 2>&1 || true); name another one: make PYTHON=python3.12"
version=$("$python" -c 'import sys; print(f"{sys.version_info.major}.{sys.version_info.minor}")')
need_system "'$python' -c 'import ensurepip, venv'" "python$version-venv" "the virtual environment"

echo "setting up .venv with Python $version (the first time this downloads PyTorch and takes a while)"
.venv/bin/python -m pip --version >/dev/null 2>&1 || "$python" -m venv --clear .venv
# uv is locked like everything else: its own lines of the lock are all that pip ever reads.
awk '/^[^ ]/ {mine = /^uv==/} mine' requirements.lock |
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r /dev/stdin
export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}" VIRTUAL_ENV=.venv
.venv/bin/uv pip install --compile-bytecode --require-hashes -r requirements.lock
.venv/bin/uv pip install --quiet --no-deps --no-build-isolation -e core
