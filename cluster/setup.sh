#!/usr/bin/env bash
# Installs raysweep on a node, once: into ~/raysweep-env, or into the container's own Python where Ray is there already.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=env.sh
. "$here/env.sh"
mkdir -p "$RAYSWEEP_SHARED"
[ -d "$RAYSWEEP_FOLDER" ] || mkdir -m 700 "$RAYSWEEP_FOLDER" # it decides what is run
chmod 600 ~/.ray/auth_token
if command -v raysweep >/dev/null; then exit; fi
if ! command -v ray >/dev/null; then
  "${PYTHON:-python3}" -m venv ~/raysweep-env
  export PATH=~/raysweep-env/bin:$PATH
fi
python -m pip install --quiet --constraint "$here/constraints.txt" --editable "$here/..[cluster]"
