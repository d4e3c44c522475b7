#!/usr/bin/env bash
# build.sh PRESET JOBS TARGET…: configures if needed, builds, says only what a person wants to know. Further settings of
# CMake in CMAKE_ARGS.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1 jobs=$2
shift 2
# Without the first, ccache takes nothing that uses a precompiled header; with the others, objects of one clone serve another.
export CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
folder=build/$preset
if [ ! -f "$folder/build.ninja" ]; then
  mkdir -p "$folder"
  # shellcheck disable=SC2086 # several words
  if ! cmake --preset "$preset" ${CMAKE_ARGS:-} >"$folder/configure.log" 2>&1; then
    cat "$folder/configure.log" >&2
    exit 1
  fi
fi
if [ -t 1 ]; then
  ninja -C "$folder" -j "$jobs" "$@"
else
  # No terminal: ninja would print a line for each of hundreds of steps.
  if ! ninja -C "$folder" -j "$jobs" "$@" >"$folder/build.log" 2>&1; then
    grep -vE '^\[[0-9]+/[0-9]+\]|^ninja: (Entering|build stopped)' "$folder/build.log" >&2 || true
    echo "build: failed; the whole log is $folder/build.log" >&2
    exit 1
  fi
  tail -n 1 "$folder/build.log"
fi
