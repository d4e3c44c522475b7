#!/usr/bin/env bash
# clang-tidy over what we wrote, with the short list in .clang-tidy. Needs clang-tidy-19 (Debian package of that name).
set -euo pipefail
cd "$(dirname "$0")/.."
tidy=$(command -v clang-tidy-19 || command -v clang-tidy || true)
if [ -z "$tidy" ]; then
  echo "lint: clang-tidy is not installed: apt-get install clang-tidy-19" >&2
  exit 1
fi
[ -f build/dev/compile_commands.json ] || cmake --preset dev >/dev/null
# clang does not read GCC's precompiled headers.
mkdir -p build/lint
sed -E 's/ -fpch-preprocess//; s/ -include [^ ]*cmake_pch\.hxx//' build/dev/compile_commands.json >build/lint/compile_commands.json
git ls-files 'core/*.cc' 'operator/*.cc' 'sidecar/*.cc' | xargs -P "$(nproc)" -n 4 "$tidy" -p build/lint --quiet
