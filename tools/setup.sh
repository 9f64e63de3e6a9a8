#!/bin/sh
# Make .venv with all that jobsphere needs, from nothing but Python 3.11 (or newer). No root, no pip needed.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "jobsphere needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
    exit 1
}
if command -v uv >/dev/null; then
    uv=uv
else
    uv=.uv/uv
    [ -x "$uv" ] || "$python" tools/bring_uv.py "$uv"
fi
UV_PYTHON=${UV_PYTHON:-$("$python" -c 'import sys; print(sys.executable)')} "$uv" sync --frozen --quiet "$@"
touch .venv/.ready
