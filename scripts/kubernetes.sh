#!/usr/bin/env bash
# The real Kubernetes parts that tests use, built from the Go module proxy into ${XDG_CACHE_HOME:-~/.cache}/tallygate.
#
#   kubernetes.sh               etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubectl
#   kubernetes.sh node          kubelet and kube-proxy, of the last version that runs on Debian 12's containerd; and CoreDNS
#   kubernetes.sh tools [NAME…] helm, kubeconform and promtool, or those named (prometheus, kwok): into tools/NAME-VERSION/
#   kubernetes.sh path [TOOL]   where they are, or would be; of `node` too
#
# Nothing to do when they are there. Cold it takes several minutes on 2 cores, and 4 GB of disk, which
# `rm -rf ~/.cache/tallygate/kubernetes/go` gives back. KUBEBUILDER_ASSETS names a folder of binaries to use in place of these.
# Exit status 2: cannot be built here, and why.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
module=$here/tests/kubernetes/gomod
cache=${XDG_CACHE_HOME:-$HOME/.cache}/tallygate
node_module=$here/tests/kubernetes/gomod-node
version_of() { sed -n 's#^\tk8s.io/kubernetes \(v[0-9.]*\)$#\1#p' "$1/go.mod"; }
bin=${KUBEBUILDER_ASSETS:-$cache/kubernetes/$(version_of "$module")}
node_bin=${KUBEBUILDER_ASSETS:-$cache/kubernetes/$(version_of "$node_module")}

declare -A tool_version=([helm]=v3.22.0 [kubeconform]=v0.7.0 [promtool]=v0.316.0 [prometheus]=v0.316.0 [kwok]=v0.7.0 [coredns]=v1.12.4)
declare -A tool_package=(
  [helm]=helm.sh/helm/v3/cmd/helm [kubeconform]=github.com/yannh/kubeconform/cmd/kubeconform
  [promtool]=github.com/prometheus/prometheus/cmd/promtool [prometheus]=github.com/prometheus/prometheus/cmd/prometheus
  [kwok]=sigs.k8s.io/kwok/cmd/kwok [coredns]=github.com/coredns/coredns
)

say() { echo "kubernetes: $*" >&2; }
cannot() { say "$*"; exit 2; }
tool_path() { echo "$cache/tools/$1-${tool_version[$1]}/$1"; }
known_tool() { [ -n "${tool_version[$1]:-}" ] || { say "no such tool: $1; there are ${!tool_version[*]}"; exit 64; }; }

# A Go that can build what go.mod asks for: from 1.21 on any can, since it fetches the toolchain that it needs as a module.
prepare_go() {
  PATH=$PATH:/usr/local/go/bin:/usr/lib/go/bin
  command -v go >/dev/null || cannot "there is no Go to build them: install Go 1.21 or newer (https://go.dev/dl, or bookworm-backports on Debian 12)"
  local have
  have=$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed 's/^go//')
  [ "$(printf '%s\n' 1.21 "$have" | sort -V | head -n 1)" = 1.21 ] ||
    cannot "Go $have is too old to build them: install Go 1.21 or newer, which fetches the rest by itself (https://go.dev/dl, or bookworm-backports on Debian 12)"
  local wanted
  wanted=$(sed -n 's/^go //p' "$module/go.mod")
  if [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ]; then export GOTOOLCHAIN=local; else export GOTOOLCHAIN=auto; fi
  export CGO_ENABLED=0 GOFLAGS="-buildvcs=false -modcacherw" GOWORK=off
  export GOMODCACHE=$cache/kubernetes/go/mod GOCACHE=$cache/kubernetes/go/build
  mkdir -p "$GOMODCACHE" "$GOCACHE"
}

# lock NAME: until the next one, or the end, nobody else builds it.
lock() {
  exec 9>"$cache/kubernetes/.lock-$1"
  flock -n 9 || { say "$1 is being built; waiting for it"; flock 9; }
}

# build NAME COMMAND…: runs it, tells how long it took; its output only where it fails.
build() {
  local name=$1 began=$SECONDS log
  shift
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    cannot "$name could not be built; the lines above are Go's"
  fi
  rm -f "$log"
  say "built $name in $((SECONDS - began)) s"
}

# build_parts MODULE BIN COMMAND…
build_parts() {
  local module=$1 bin=$2 version commands
  shift 2
  commands=("$@") version=$(version_of "$module")
  if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
    say "KUBEBUILDER_ASSETS: using what is in $bin"
    return
  fi
  local want command missing=()
  want=$(cat "$module/go.mod" "$module/go.sum" | sha256sum | cut -c1-16)
  current() { [ -x "$bin/$1" ] && [ "$(cat "$bin/.$1.stamp" 2>/dev/null)" = "$want" ]; }
  for command in "${commands[@]}"; do current "$command" || missing+=("$command"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  prepare_go
  say "building ${missing[*]} $version once, into $bin: about 2 minutes for the first on 2 cores, then less"
  mkdir -p "$bin"
  cd "$module"
  # Without a version they panic at start.
  local minor=${version#v1.} flags="" package
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    flags+=" -X $package.gitVersion=$version -X $package.gitMajor=1 -X $package.gitMinor=${minor%%.*} -X $package.gitTreeState=clean"
    flags+=" -X $package.gitCommit=module -X $package.buildDate=1970-01-01T00:00:00Z"
  done
  for command in "${missing[@]}"; do
    lock "$command"
    current "$command" && continue # by whom we waited for
    package=k8s.io/kubernetes/cmd/$command
    [ "$command" = etcd ] && package=go.etcd.io/etcd/server/v3
    build "$command" nice -n 5 go build -mod=readonly -trimpath -ldflags "-s -w -buildid=$flags" -o "$bin/$command.new" "$package"
    mv "$bin/$command.new" "$bin/$command" # never a half of one, and not into one that runs
    echo "$want" >"$bin/.$command.stamp"
  done
}

build_tools() {
  local name flags tags package
  for name; do
    known_tool "$name"
    [ -x "$(tool_path "$name")" ] && continue
    prepare_go
    lock "$name"
    [ -x "$(tool_path "$name")" ] && continue
    say "building $name ${tool_version[$name]} once, into $(dirname "$(tool_path "$name")")"
    flags="" tags=""
    case $name in prom*) tags=remove_all_sd,enable_kubernetes_sd ;; esac # without the clients of a score of clouds
    if [ "$name" = helm ]; then # with the oldest Kubernetes that we support, where no cluster is asked
      flags="-X helm.sh/helm/v3/internal/version.version=${tool_version[helm]} -X helm.sh/helm/v3/internal/version.gitTreeState=clean"
      for package in chartutil lint/rules; do
        flags+=" -X helm.sh/helm/v3/pkg/$package.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/$package.k8sVersionMinor=33"
      done
    fi
    GOBIN=$(dirname "$(tool_path "$name")") build "$name" nice -n 5 go install -trimpath -tags "$tags" -ldflags "-s -w -buildid= $flags" "${tool_package[$name]}@${tool_version[$name]}"
  done
}

case ${1:-} in
"") build_parts "$module" "$bin" etcd kube-apiserver kubectl kube-controller-manager kube-scheduler ;;
node)
  build_parts "$node_module" "$node_bin" kubelet kube-proxy
  build_tools coredns
  ;;
path)
  if [ "${2:-}" = node ]; then echo "$node_bin"
  elif [ -n "${2:-}" ]; then known_tool "$2"; tool_path "$2"; else echo "$bin"; fi
  ;;
tools)
  shift
  [ $# -gt 0 ] || set -- helm kubeconform promtool
  build_tools "$@"
  ;;
*)
  say "no such command: $1 (see the head of this file)"
  exit 64
  ;;
esac
