#!/usr/bin/env bash
# The head's MLflow server: mlflow.sh start|stop, or serve, which stays. One that answers is left alone, so that `ray up` may be
# run again; who uses it gives the name raysweep, and the cluster's token as password.
# Its database and artifacts lie in the shared folder, so they outlive the head. One process writes to the database, so SQLite will do.
set -euo pipefail
# shellcheck source=env.sh
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"
[ -z "$RAYSWEEP_MLFLOW" ] || exit 0
place=$RAYSWEEP_SHARED/mlflow
pid=~/.raysweep-mlflow.pid

healthy() { python - <<<"import urllib.request as u; u.urlopen('http://127.0.0.1:5000/health', timeout=5)" 2>/dev/null; }

serve() {
  umask 077
  mkdir -p "$place"
  rm -f ~/.raysweep-mlflow-users.db # else it would know only the token that it began with
  printf '[mlflow]\n%s\n%s\n%s\n%s\n%s\n' "database_uri = sqlite:///$HOME/.raysweep-mlflow-users.db" 'default_permission = READ' \
    'admin_username = raysweep' 'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' \
    'auth_cache_ttl_seconds = 60' >~/.raysweep-mlflow.ini
  export MLFLOW_AUTH_CONFIG_PATH=~/.raysweep-mlflow.ini MLFLOW_AUTH_ADMIN_PASSWORD=$MLFLOW_TRACKING_PASSWORD
  MLFLOW_FLASK_SERVER_SECRET_KEY=$(head -c 32 /dev/urandom | base64)
  export MLFLOW_FLASK_SERVER_SECRET_KEY
  # Without its job runner it takes 0.4 GB rather than 1.7; with the pools as they come, 32 writers are too many for it.
  export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=40 MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW=40
  exec mlflow server --app-name basic-auth --backend-store-uri "sqlite:///$place/mlflow.db" \
    --artifacts-destination "$place/artifacts" --host 0.0.0.0 --port 5000 --workers 1
}

start() {
  healthy && exit 0
  log=~/.raysweep-mlflow.log
  setsid nohup bash "${BASH_SOURCE[0]}" serve >>"$log" 2>&1 </dev/null &
  echo $! >"$pid"
  for _ in $(seq 120); do
    healthy && exit 0
    sleep 0.5
  done
  echo "MLflow does not answer; the end of $log:" >&2
  tail -n 5 "$log" >&2
  exit 1
}

case ${1:-} in
  serve) serve ;;
  start) start ;;
  stop) [ ! -e "$pid" ] || { kill -- "-$(cat "$pid")" 2>/dev/null || true; rm -f "$pid"; } ;;
  *) sed -n '2,4p' "${BASH_SOURCE[0]}" && exit 2 ;;
esac
