#!/usr/bin/env bash
# build.sh PRESET JOBS TARGET…: configures if needed, builds, says only what a person wants to know.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1 jobs=$2
shift 2
folder=build/$preset
if [ ! -f "$folder/build.ninja" ]; then
  mkdir -p "$folder"
  if ! cmake --preset "$preset" >"$folder/configure.log" 2>&1; then
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
