#!/bin/sh
# Make .venv with all that jobsphere needs, from nothing but Python 3.11 (or newer). No root needed.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "jobsphere needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
    exit 1
}

make_venv() {
    # Debian splits pip's bundle off into python3-venv: without it the system's pip fills the environment from outside.
    "$python" -m venv .venv 2>/dev/null && return
    rm -rf .venv
    "$python" -m venv --without-pip .venv && "$python" -m pip --version >/dev/null 2>&1 && return
    rm -rf .venv
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -q && apt-get install -qy python3-venv &&
        "$python" -m venv .venv
}

bring_uv() {
    [ -x .venv/bin/uv ] && return
    if [ -x .venv/bin/pip ]; then .venv/bin/pip install -q uv; else "$python" -m pip --python .venv/bin/python install -q uv; fi
}

if command -v uv >/dev/null; then
    uv=uv
else
    [ -x .venv/bin/python ] || make_venv || {
        echo "cannot make a virtual environment: install uv, or python3-venv (apt-get install python3-venv)" >&2
        exit 1
    }
    bring_uv
    uv=.venv/bin/uv
fi
"$uv" sync --frozen --quiet "$@"
touch .venv/.ready
