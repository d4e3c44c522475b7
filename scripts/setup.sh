#!/usr/bin/env bash
# Installs every Debian package that building, testing, the demo and the benchmarks need. Takes a moment when nothing is
# missing. As root, or through sudo. `setup.sh build`: only what building needs; `setup.sh node`: also what runs pods;
# `setup.sh fuzz`: what building needs, and libFuzzer.
set -euo pipefail

build=(
  g++ make cmake ninja-build ccache mold pkg-config git ca-certificates
  libcpprest-dev libyaml-cpp-dev libpqxx-dev libhiredis-dev prometheus-cpp-dev libspdlog-dev libfmt-dev libgtest-dev
  libexpected-dev nlohmann-json3-dev libboost-dev libboost-system-dev libboost-thread-dev libboost-filesystem-dev
  libboost-chrono-dev libboost-atomic-dev libboost-date-time-dev libboost-regex-dev libboost-random-dev
  libssl-dev libcurl4-openssl-dev zlib1g-dev libbrotli-dev libzstd-dev libhowardhinnant-date-dev tzdata
)
# The real parts of tests, demo and benchmarks; style.
run=(
  redis-server postgresql postgresql-contrib nginx-light wrk openssl python3 python3-venv procps curl util-linux
  clang-format faketime iproute2 nftables python3-yaml lua5.1
)
# A Kubernetes node, for tests/node.
node=(containerd runc containernetworking-plugins iptables conntrack busybox-static)
fuzz=(clang-19 libclang-rt-19-dev llvm-19)
# package:command, for the app servers that tests put behind a sidecar. A command from elsewhere will do.
tools=(nodejs:node npm:npm golang-go:go)
packages=("${build[@]}")
if [ "${1:-}" = node ]; then packages+=("${node[@]}"); fi
if [ "${1:-}" = fuzz ]; then packages+=("${fuzz[@]}"); fi
if [ "${1:-}" != build ] && [ "${1:-}" != fuzz ]; then
  packages+=("${run[@]}")
  for tool in "${tools[@]}"; do
    PATH="$PATH:/usr/local/go/bin" command -v "${tool#*:}" >/dev/null || packages+=("${tool%:*}")
  done
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "setup: nothing is missing"
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "setup: these Debian packages are missing, and neither root nor sudo is at hand: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "setup: installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 20 "$log" >&2
  echo "setup: installing failed; the lines above are apt's" >&2
  exit 1
fi
echo "setup: done"
