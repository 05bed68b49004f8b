#!/usr/bin/env bash
# As much of Slurm's srun as cluster/slurm.sbatch uses: a command on all machines of a job at once, or on one, by ssh.
set -euo pipefail
hosts=(h0 h1 h2)
while [[ $1 == --* ]]; do
  case $1 in --nodelist=*) hosts=("${1#*=}") ;; esac
  shift
done
environment=$(mktemp -p "$PWD" .environment.XXXXXX)
export -p >"$environment"
declare -A running
for host in "${hosts[@]}"; do
  ssh -o StrictHostKeyChecking=no -o LogLevel=ERROR "$host" ". $environment; cd $PWD; $(printf '%q ' "$@")" &
  running[$host]=$!
done
code=0
wait "${running[${hosts[0]}]}" || code=$?
[ "${#hosts[@]}" = 1 ] || wait
rm -f "$environment"
exit "$code"
