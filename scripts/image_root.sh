#!/usr/bin/env bash
# image_root.sh BINARY ROOT: the root folder of an image that holds this program and what it needs, no more: its libraries and their
# loader, certificate authorities, time zones, a user, and word of what came from which Debian package (as scanners read it, with the
# licences, and as SPDX in /usr/share/tallygate). No shell, no package manager. Runs in the Dockerfile.
set -euo pipefail
binary=$1 root=$2
name=$(basename "$binary")

copy() { # copies a file to where it is found, links resolved
  local target=$root${2:-$1}
  mkdir -p "$(dirname "$target")"
  cp -L "$1" "$target"
}

mkdir -p "$root"/{etc,tmp,usr/local/bin,usr/share/tallygate,var/lib/dpkg/status.d}
chmod 1777 "$root/tmp"
install -m 755 "$binary" "$root/usr/local/bin/$name"

loaded=() # at run time, by name
if [ "$name" = tallygate-sidecar ]; then # `init` loads it when it captures traffic
  loaded+=("$(ldconfig -p | sed -n 's#^\tlibnftables.so.1 .* => ##p')")
fi
if ldd "$binary" "${loaded[@]}" | grep 'not found' >&2; then exit 1; fi
mapfile -t libraries < <({ ldd "$binary" "${loaded[@]}" | sed -nE 's#^\t(.* => )?(/[^ ]+) \(0x.*#\2#p'; for each in "${loaded[@]}"; do echo "$each"; done; } | sort -u)
for library in "${libraries[@]}"; do copy "$library"; done

# By path, not by a variable, for OpenSSL, GnuTLS and libcurl alike.
copy /etc/ssl/certs/ca-certificates.crt
mkdir -p "$root/usr/lib/ssl"
ln -s /etc/ssl/certs "$root/usr/lib/ssl/certs"
ln -s /etc/ssl/certs/ca-certificates.crt "$root/usr/lib/ssl/cert.pem"
data=(ca-certificates)
if [ "$name" = tallygate-operator ]; then # windows and billing periods are in tenants' time zones
  mkdir -p "$root/usr/share"
  cp -a /usr/share/zoneinfo "$root/usr/share/"
  data+=(tzdata)
fi

echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >"$root/etc/passwd"
echo 'nonroot:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
cp -L /etc/os-release "$root/etc/os-release"

# Which packages. A library is known to dpkg by its path before or after the merge of /lib into /usr/lib.
packages_of() {
  local file
  for file in "$@"; do
    file=$(readlink -f "$file")
    dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}"
  done | sed 's/:.*//' | sort -u
}
mapfile -t packages < <({ packages_of "${libraries[@]}"; printf '%s\n' "${data[@]}"; } | sort -u)
for package in "${packages[@]}"; do
  dpkg-query -W -f='Package: ${Package}\nStatus: ${Status}\nVersion: ${Version}\nArchitecture: ${Architecture}\nSource: ${source:Package} (${source:Version})\nMaintainer: ${Maintainer}\nDescription: ${binary:Summary}\n' \
    "$package" >"$root/var/lib/dpkg/status.d/$package"
  copy "/usr/share/doc/$package/copyright"
done

checksum=$(sha256sum "$binary" | cut -d' ' -f1)
version=${TALLYGATE_VERSION:-unknown}
{
  printf '{"spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": "%s-%s",\n' "$name" "$version"
  printf ' "documentNamespace": "https://tallygate.dev/spdx/%s-%s",\n' "$name" "$checksum"
  printf ' "creationInfo": {"created": "%s", "creators": ["Tool: image_root.sh"]},\n' "$(date -u -d "@${SOURCE_DATE_EPOCH:-$(date +%s)}" +%FT%TZ)"
  printf ' "packages": [\n  {"SPDXID": "SPDXRef-%s", "name": "%s", "versionInfo": "%s", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,\n' "$name" "$name" "$version"
  printf '   "checksums": [{"algorithm": "SHA256", "checksumValue": "%s"}]}' "$checksum"
  for package in "${packages[@]}"; do # an identifier has no +, an address has it escaped
    read -r package_version architecture < <(dpkg-query -W -f='${Version} ${Architecture}\n' "$package")
    printf ',\n  {"SPDXID": "SPDXRef-deb-%s", "name": "%s", "versionInfo": "%s", "supplier": "Organization: Debian", "downloadLocation": "NOASSERTION", "filesAnalyzed": false,\n' \
      "${package//+/-}" "$package" "$package_version"
    escaped=${package//+/%2B}@${package_version//+/%2B}
    printf '   "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": "pkg:deb/debian/%s?arch=%s&distro=bookworm"}]}' \
      "${escaped//:/%3A}" "$architecture"
  done
  printf '],\n "relationships": [\n  {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-%s"}' "$name"
  for package in "${packages[@]}"; do
    printf ',\n  {"spdxElementId": "SPDXRef-%s", "relationshipType": "DEPENDS_ON", "relatedSpdxElement": "SPDXRef-deb-%s"}' "$name" "${package//+/-}"
  done
  printf ']}\n'
} >"$root/usr/share/tallygate/sbom.spdx.json"
