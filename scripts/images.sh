#!/usr/bin/env bash
# Builds both images and writes to OUTPUT for each an archive (docker load, ctr images import), its SBOM (SPDX JSON), and SHA256SUMS.
#
#   images.sh [--output DIR] [--arch amd64|arm64] [--tag TAG] [--binaries DIR] [--debootstrap]
#
# --binaries     takes the programs from DIR (built on Debian 12) and builds nothing: seconds in place of many minutes.
# --debootstrap  makes the base image debian:bookworm-slim from Debian's archive, where no registry can be reached. Needs root.
#
# By docker where its daemon answers, else podman, else buildah. Another architecture than this machine's needs binfmt and qemu.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -nE 's/^project\(.*VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
output=build/images arch=$(dpkg --print-architecture) tag=$version binaries='' debootstrap=''
while [ $# -gt 0 ]; do
  case $1 in
    --output) output=$2; shift 2 ;;
    --arch) arch=$2; shift 2 ;;
    --tag) tag=$2; shift 2 ;;
    --binaries) binaries=$2; shift 2 ;;
    --debootstrap) debootstrap=yes; shift ;;
    *) sed -n '2,/^set/{/^#/p}' "$0" >&2; exit 64 ;;
  esac
done

if docker info >/dev/null 2>&1; then
  engine=docker
elif command -v podman >/dev/null && [ -z "$debootstrap" ]; then
  engine=podman
elif command -v buildah >/dev/null; then
  engine=buildah
else
  echo "images: neither a docker daemon, podman nor buildah is at hand" >&2
  exit 2
fi
# Inside a container there is neither overlay nor a runtime for RUN steps, in many places.
if [ "$engine" = buildah ]; then export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot} STORAGE_DRIVER=${STORAGE_DRIVER:-vfs}; fi
mkdir -p "$output"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make_base() {
  buildah images debian:bookworm-slim >/dev/null 2>&1 && return
  echo "images: making debian:bookworm-slim by debootstrap"
  debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" 2>&1 || { tail "$work/debootstrap.log" >&2; exit 1; }
  if [ -d /etc/apt/sources.list.d ] && ls /etc/apt/sources.list.d/*.sources >/dev/null 2>&1; then # updates of security too
    cp /etc/apt/sources.list.d/*.sources "$work/base/etc/apt/sources.list.d/" && rm -f "$work/base/etc/apt/sources.list"
  fi
  rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
  local container
  container=$(buildah from scratch)
  buildah add -q "$container" "$work/base" / >/dev/null
  buildah commit -q --rm "$container" docker.io/library/debian:bookworm-slim >/dev/null
  rm -rf "$work/base"
}

context=. options=(--platform "linux/$arch" --build-arg "VERSION=$version")
if [ -n "$binaries" ]; then
  context=$work/context
  mkdir -p "$context/prebuilt" "$context/scripts"
  cp Dockerfile "$context/"
  cp scripts/image_root.sh "$context/scripts/"
  for name in operator sidecar; do strip -o "$context/prebuilt/tallygate-$name" "$binaries/tallygate-$name"; done
  options+=(--build-arg BINARIES=prebuilt)
fi
[ -z "$debootstrap" ] || { make_base; options+=(--pull-never); }

for name in operator sidecar; do
  image=tallygate-$name:$tag archive=$output/tallygate-$name-$tag-$arch
  echo "images: building $image for $arch by $engine"
  rm -f "$archive.tar"
  case $engine in
    docker)
      docker buildx build --load "${options[@]}" --target "$name" -t "$image" "$context"
      docker save -o "$archive.tar" "$image"
      ;;
    podman)
      podman build "${options[@]}" --target "$name" -t "$image" "$context"
      podman save -q -o "$archive.tar" "$image"
      ;;
    buildah)
      buildah bud -q --layers "${options[@]}" --target "$name" -t "$image" "$context" >"$work/build.log" 2>&1 || { tail -n 30 "$work/build.log" >&2; exit 1; }
      buildah push -q "$image" "docker-archive:$archive.tar:$image"
      ;;
  esac
  python3 - "$archive.tar" "$archive.spdx.json" <<'PY'
import io, json, sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    for layer in json.load(archive.extractfile("manifest.json"))[0]["Layers"]:
        with tarfile.open(fileobj=io.BytesIO(archive.extractfile(layer).read())) as files:
            for member in files:
                if member.name.endswith("usr/share/tallygate/sbom.spdx.json"):
                    open(sys.argv[2], "wb").write(files.extractfile(member).read())
PY
done
(cd "$output" && sha256sum -- tallygate-*-"$tag-$arch".tar tallygate-*-"$tag-$arch".spdx.json >"SHA256SUMS-$tag-$arch")
du -h "$output"/tallygate-*-"$tag-$arch".tar
