#!/usr/bin/env bash
# As much of docker's command line as `ray up` uses, for machines that are themselves boxes: a container is the machine.
set -euo pipefail
place=/run/containers
mkdir -p "$place"
command=$1
shift
case $command in
  pull | image) ;;
  info) echo runc ;;
  inspect) # -f FORMAT NAME
    case $2 in *Config.Env*) echo '["PATH=/usr/bin:/bin","HOME=/root"]'; exit ;; esac # of an image
    [ -e "$place/$3" ] || { echo "Error: No such object: $3" >&2; exit 1; }
    case $2 in
      *State.Running*) echo true ;;
      *Mounts*) cat "$place/$3.mounts" ;;
      *Config.Image*) cat "$place/$3" ;;
    esac ;;
  run)
    name='' image='' mounts=()
    while [ $# -gt 0 ]; do
      case $1 in
        --name) name=$2; shift ;;
        -v | --volume)
          from=${2%%:*} to=${2#*:} to=${to%%:*}
          if [ "$from" != "$to" ] && [ -e "$from" ]; then
            if [ -d "$from" ]; then mkdir -p "$to"; else mkdir -p "$(dirname "$to")"; touch "$to"; fi
            mount --bind "$from" "$to"
          fi
          mounts+=("{\"Destination\": \"$to\"}"); shift ;;
        -e) shift ;;
        -*) ;;
        *) image=${image:-$1} ;;
      esac
      shift
    done
    echo "$image" >"$place/$name"
    (IFS=,; echo "[${mounts[*]}]" >"$place/$name.mounts") ;;
  exec)
    while [[ $1 == -* ]]; do
      [ "$1" != -e ] || shift
      shift
    done
    shift
    exec "$@" ;;
  stop) rm -f "$place/$1" ;;
esac
