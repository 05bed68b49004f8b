# shellcheck shell=bash
# What every node must agree on. Sourced by all that starts on a node, and by `raysweep COMMAND --cluster FILE` on the head.
# Edit these two, or set them before.
: "${RAYSWEEP_SHARED:=/mnt/raysweep}" # a folder that every node sees and the ssh user may write to: NFS, EFS, Filestore ...
: "${RAYSWEEP_MLFLOW:=}"              # an MLflow server that stands elsewhere, as https://mlflow.example.org; empty: the head's own

[ ! -d ~/raysweep-env ] || export PATH=~/raysweep-env/bin:$PATH # what setup.sh made, where there is no container
# The head's address: Ray tells workers; on the head it is in the cluster's file, if its machines are one's own.
raysweep_head=${RAY_HEAD_IP:-$(grep -o '"head_ip": "[^"]*' ~/ray_bootstrap_config.yaml 2>/dev/null | cut -d '"' -f 4 || true)}
raysweep_head=${raysweep_head:-$(hostname -I | cut -d ' ' -f 1)}
RAYSWEEP_NODE=$(ip -4 route get "$raysweep_head" 2>/dev/null | sed -n 's/.* src \([0-9.]*\).*/\1/p' || true) # containers may lack ip

export RAYSWEEP_SHARED
export RAYSWEEP_NODE=${RAYSWEEP_NODE:-$(hostname -I | cut -d ' ' -f 1)} # this node's address, as the head sees it
export RAYSWEEP_FOLDER=$RAYSWEEP_SHARED/studies        # journals, checkpoints, the code of each study
export RAYSWEEP_CACHE=$RAYSWEEP_SHARED/features        # what frozen backbones made of data
export TORCH_HOME=$RAYSWEEP_SHARED/torch               # pretrained weights, downloaded once
export MLFLOW_TRACKING_URI=${RAYSWEEP_MLFLOW:-http://$raysweep_head:5000}
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
if [ -z "$RAYSWEEP_MLFLOW" ] && [ -r ~/.ray/auth_token ]; then # the head's MLflow takes who has the cluster's token
  MLFLOW_TRACKING_PASSWORD=$(cat ~/.ray/auth_token)
  export MLFLOW_TRACKING_USERNAME=raysweep MLFLOW_TRACKING_PASSWORD
fi
