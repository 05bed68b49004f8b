#!/usr/bin/env bash
# `raysweep run` for a system that begins anew what has failed: a study that was stopped or cancelled has not.
code=0
raysweep run "$@" || code=$?
case $code in
  130 | 143) exit 0 ;;
  *) exit "$code" ;;
esac
