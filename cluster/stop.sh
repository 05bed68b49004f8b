#!/usr/bin/env bash
# Ends the Ray of this cluster on this node, and no other Ray that the user may have: what has the head's address on its
# command line, and what that has started.   stop.sh [HEAD]
set -euo pipefail
# shellcheck source=env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
address=${1:-$raysweep_head}:6379

family() { # the processes given, and all that they have started
  for pid in "$@"; do
    echo "$pid"
    # shellcheck disable=SC2046  # several
    family $(pgrep -P "$pid")
  done
}

ours() {
  local mine="ray[/.].*--(gcs-)?address=${address//./\\.}( |\$)"
  if [ "$RAYSWEEP_NODE" = "${address%:*}" ]; then mine+="|[/]gcs_server .*--gcs_server_port=${address#*:}( |\$)"; fi
  # shellcheck disable=SC2046
  family $(pgrep -u "$(id -u)" -f -- "$mine")
  pgrep -u "$(id -u)" -P 1 -f '^ray::' || true # left behind by a raylet that was killed
}

for signal in TERM KILL; do
  for _ in $(seq 20); do
    pids=$(ours)
    [ -n "$pids" ] || exit 0
    # shellcheck disable=SC2086
    kill -"$signal" $pids 2>/dev/null || true
    sleep 0.5
  done
done
echo "Ray processes that do not end: $pids" >&2
exit 1
