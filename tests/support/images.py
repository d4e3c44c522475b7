"""Container images of one layer, made from binaries of this machine with the libraries that they link: archives that `ctr images import`
and `docker load` take. No registry, no engine. For tests; the images that people run are built by the Dockerfile.

    make_image("redis.tar", "local/redis:test", ["/usr/bin/redis-server"], binaries=["/usr/bin/redis-server"])
"""

import hashlib
import io
import json
import os
import pathlib
import re
import subprocess
import tarfile

from tests.support.stack import ROOT, binary

PASSWD = "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\ntallygate:x:65532:65532::/:/bin/false\nredis:x:999:999::/data:/bin/sh\npostgres:x:70:70::/var/lib/postgresql:/bin/sh\n"
GROUP = "root:x:0:\nnobody:x:65534:\ntallygate:x:65532:\nredis:x:999:\npostgres:x:70:\n"
NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"


def libraries_of(binary):
    """→ {path: path} of the loader and the libraries, under the names that the loader looks for."""
    listing = subprocess.run(["ldd", binary], capture_output=True, text=True)
    if listing.returncode != 0:
        return {}  # static
    found = {}
    for line in listing.stdout.splitlines():
        match = re.search(r"(?:=> )?(/\S+) \(0x", line)
        if match:
            found[match.group(1)] = match.group(1)
    return found


class Layer:
    """The files of an image, in an order that depends on nothing but their names."""

    def __init__(self):
        self._entries = {}  # name → (mode, uid, data | None: a folder | str: a link)
        for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("dev", 0o755), ("proc", 0o755), ("sys", 0o755), ("run", 0o755)):
            self.folder(folder, mode)

    def folder(self, name, mode=0o755, uid=0):
        self._parents(name)
        self._entries[name.strip("/")] = (mode, uid, None)

    def file(self, name, data, mode=0o644, uid=0):
        self._parents(name)
        self._entries[name.strip("/")] = (mode, uid, data)

    def link(self, name, target):
        self._parents(name)
        self._entries[name.strip("/")] = (0o777, 0, target)

    def copy(self, source, name=None):
        source = pathlib.Path(source)
        self.file(name or str(source), source.read_bytes(), 0o755 if os.access(source, os.X_OK) else 0o644)

    def binary(self, source, name=None):
        self.copy(source, name)
        for path in libraries_of(source):
            self.copy(path)

    def tree(self, source, name=None, skip=("__pycache__", "test", "tests", "idlelib", "tkinter", "ensurepip", "lib2to3")):
        source = pathlib.Path(source)
        for path in sorted(source.rglob("*")):
            if any(part in skip for part in path.relative_to(source).parts) or path.is_dir():
                continue
            target = str(pathlib.PurePath(name or source) / path.relative_to(source))
            if path.is_symlink():
                self.link(target, os.readlink(path))
            elif path.exists():
                self.copy(path, target)
                if path.suffix == ".so":
                    for library in libraries_of(path):
                        self.copy(library)

    def _parents(self, name):
        parent = pathlib.PurePosixPath(name.strip("/")).parent
        if str(parent) not in (".", "") and str(parent) not in self._entries:
            self.folder(str(parent))

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
            for name in sorted(self._entries):
                mode, uid, data = self._entries[name]
                info = tarfile.TarInfo(name)
                info.mode, info.uid, info.gid = mode, uid, uid
                if data is None:
                    info.type = tarfile.DIRTYPE
                elif isinstance(data, str):
                    info.type, info.linkname = tarfile.SYMTYPE, data
                else:
                    info.size = len(data)
                archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
        return out.getvalue()


def write_archive(path, reference, layer, entrypoint, env=None, user="", workdir="/"):
    data = layer.tar()
    config = json.dumps({
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Entrypoint": entrypoint, "User": user, "WorkingDir": workdir,
                   "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"] + [f"{name}={value}" for name, value in (env or {}).items()]},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(data).hexdigest()]},
        "history": [{"created_by": "tests/support/images.py"}],
    }).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as archive:
        for name, content in (("layer.tar", data), (config_name, config), ("manifest.json", manifest)):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def base_layer():
    layer = Layer()
    layer.file("/etc/passwd", PASSWD.encode())
    layer.file("/etc/group", GROUP.encode())
    layer.file("/etc/nsswitch.conf", NSSWITCH.encode())
    for library in ("libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"):  # what the loader is not asked for by name
        for folder in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu"):
            if (pathlib.Path(folder) / library).exists():
                layer.copy(f"{folder}/{library}")
    return layer


def make_image(path, reference, entrypoint, binaries=(), files=None, env=None, user=""):
    layer = base_layer()
    for source in binaries:
        layer.binary(source)
    for name, source in (files or {}).items():
        layer.copy(source, name)
    return write_archive(path, reference, layer, entrypoint, env, user)


PAUSE = r"""
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void end(int signal) { (void)signal; _exit(0); }
static void reap(int signal) { (void)signal; while (waitpid(-1, 0, WNOHANG) > 0) {} }
int main(void) { signal(SIGINT, end); signal(SIGTERM, end); signal(SIGCHLD, reap); for (;;) pause(); }
"""


def pause_image(folder, reference):
    """The process that holds a pod's namespaces: waits to be told to end, and reaps what is left to it."""
    folder = pathlib.Path(folder)
    subprocess.run(["gcc", "-Os", "-static", "-x", "c", "-", "-o", folder / "pause"], input=PAUSE.encode(), check=True)
    return make_image(folder / "pause.tar", reference, ["/pause"], files={"/pause": folder / "pause"})


def busybox_layer(layer, commands=("sh", "cat", "ls", "sleep", "mkdir", "chmod", "chown", "id", "wget", "nc", "ps", "env", "test", "ip", "tail", "su", "hostname", "nslookup")):
    layer.copy("/usr/bin/busybox" if os.path.exists("/usr/bin/busybox") else "/bin/busybox", "/bin/busybox")
    for command in commands:
        layer.link(f"/bin/{command}", "busybox")
    return layer


def busybox_image(folder, reference):
    return write_archive(pathlib.Path(folder) / "busybox.tar", reference, busybox_layer(base_layer()), ["/bin/sh"])


def redis_image(folder, reference):
    layer = busybox_layer(base_layer())
    layer.binary("/usr/bin/redis-server")
    layer.binary("/usr/bin/redis-cli")
    layer.folder("/data", 0o777)
    return write_archive(pathlib.Path(folder) / "redis.tar", reference, layer, ["redis-server"], user="999", workdir="/data")


# What the official image promises of its entry point, as far as a chart needs it.
POSTGRES_ENTRYPOINT = r"""#!/bin/sh
set -e
PGDATA=${PGDATA:-/var/lib/postgresql/data}
user=${POSTGRES_USER:-postgres}
password=$POSTGRES_PASSWORD
[ -z "$POSTGRES_PASSWORD_FILE" ] || password=$(cat "$POSTGRES_PASSWORD_FILE")
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  mkdir -p "$PGDATA"
  echo "$password" > /tmp/password
  initdb -D "$PGDATA" -U "$user" -A scram-sha-256 --pwfile=/tmp/password --locale=C -E UTF8 >/tmp/initdb.log 2>&1 || { cat /tmp/initdb.log; exit 1; }
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  database=${POSTGRES_DB:-$user}
  [ "$database" = postgres ] || echo "CREATE DATABASE \"$database\";" | postgres --single -D "$PGDATA" -j postgres >/dev/null
fi
[ $# -gt 0 ] && [ "$1" = postgres ] && shift
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/tmp "$@"
"""


def postgres_image(folder, reference):
    version = max(pathlib.Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name))
    layer = busybox_layer(base_layer())
    for name in ("postgres", "initdb", "pg_isready", "psql"):
        layer.binary(version / "bin" / name)
        layer.link(f"/usr/bin/{name}", str(version / "bin" / name))
    layer.tree(version / "lib", skip=("bitcode", "pgxs", "llvmjit.so"))
    layer.tree(pathlib.Path("/usr/share/postgresql") / version.name, skip=("man", "contrib", "extension_extra"))
    layer.tree("/usr/share/zoneinfo", skip=("right", "posix"))
    layer.file("/usr/local/bin/entrypoint.sh", POSTGRES_ENTRYPOINT.encode(), 0o755)
    layer.folder("/var/lib/postgresql/data", 0o777, 70)
    return write_archive(pathlib.Path(folder) / "postgres.tar", reference, layer, ["/usr/local/bin/entrypoint.sh"], user="70")


def python_image(folder, reference, scripts, name="app"):
    """An app in Python with nothing but the standard library: scripts {path in the image: file here}."""
    real = pathlib.Path(os.path.realpath("/usr/bin/python3"))
    layer = busybox_layer(base_layer())
    layer.binary(real)
    layer.link("/usr/bin/python3", str(real))
    layer.tree(f"/usr/lib/{real.name}")
    for target, source in scripts.items():
        layer.copy(source, target)
    return write_archive(pathlib.Path(folder) / f"{name}.tar", reference, layer, ["/usr/bin/python3", "-u"])


def tallygate_image(folder, program, reference):
    """A product's image with the root that the Dockerfile makes for it, by the same script."""
    folder = pathlib.Path(folder)
    root, stripped = folder / f"root-{program}", folder / program
    subprocess.run(["strip", "-o", stripped, binary(program)], check=True)
    subprocess.run([ROOT / "scripts" / "image_root.sh", stripped, root], check=True)
    layer = Layer()
    layer.tree(root, "/", skip=())
    layer.folder("/var/lib/tallygate", 0o755, 65532)
    return write_archive(folder / f"{program}.tar", reference, layer, [f"/usr/local/bin/{program}"], user="65532:65532")
