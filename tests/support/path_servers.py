"""The apps of path_apps/, each behind its real server: what they need is installed once, pinned, into ${XDG_CACHE_HOME:-~/.cache}/tallygate
by npm, pip and go, or the caller is told that the server cannot be had.

    for name, start in SERVERS.items():
        server = start(folder)      # raises Unavailable
        server.address, server.stop()
"""

import pathlib
import shutil
import subprocess
import sys

from tests.support.process import Process, ProcessError, free_port, wait_until
from tests.support.tools import cache_dir

APPS = pathlib.Path(__file__).resolve().parent / "path_apps"
INSTALL_TIMEOUT_S = 300
START_TIMEOUT_S = 30

# Versions that run on Debian 12's Node 18 and Python 3.11 as on later ones.
NODE_PACKAGES = ("express@5.1.0", "fastify@4.29.1", "hono@4.7.10", "@hono/node-server@1.14.2")
PYTHON_PACKAGES = ("starlette==0.46.2", "uvicorn==0.34.2", "flask==3.1.1", "werkzeug==3.1.3")


_failed = {}  # folder → why it cannot be installed: nobody waits for the same failure twice


class Unavailable(Exception):
    """The server cannot be had on this machine, and why."""


class PathServer:
    def __init__(self, process, address):
        self.process = process
        self.address = address

    def stop(self):
        self.process.kill9()


def _program(name, elsewhere=""):
    found = shutil.which(name) or shutil.which(name, path=elsewhere)
    if found is None:
        raise Unavailable(f"{name} is not installed: run `make setup`")
    return found


def _install(folder, steps, what):
    """Runs the steps once; a folder of an installation that broke off is begun anew."""
    done = folder / "complete"
    if done.exists():
        return folder
    if folder in _failed:
        raise Unavailable(_failed[folder])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"\ninstalling {what} once, into {folder}", file=sys.stderr, flush=True)
    for argv in steps:
        try:
            subprocess.run([str(item) for item in argv], cwd=folder, check=True, timeout=INSTALL_TIMEOUT_S, stdout=subprocess.DEVNULL,
                           stderr=subprocess.PIPE)
        except (subprocess.SubprocessError, OSError) as error:
            lines = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
            _failed[folder] = f"{what} cannot be installed: {' / '.join(lines[:3]) or error}"
            raise Unavailable(_failed[folder]) from error
    done.touch()
    return folder


def _folder_name(packages):
    return "path-apps-" + "-".join(package.lstrip("@").replace("/", "-").replace("==", "@") for package in packages)


def _start(name, argv, folder):
    process = Process(name, argv, folder).spawn()
    prefix = "listening on "
    try:
        line = process.wait_ready(lambda: next((text for text in process.out_text().splitlines() if text.startswith(prefix)), None),
                                  START_TIMEOUT_S, "listens")
    except ProcessError:
        process.kill9()
        raise
    return PathServer(process, line.removeprefix(prefix))


def _node(name):
    def start(folder):
        node, npm = _program("node"), _program("npm")
        home = _install(cache_dir() / "node" / _folder_name(NODE_PACKAGES),
                        [[npm, "install", "--prefix", ".", "--no-audit", "--no-fund", "--ignore-scripts", *NODE_PACKAGES]], "Express, Fastify and Hono")
        app = home / f"{name}_app.mjs"  # beside node_modules, where Node looks
        shutil.copyfile(APPS / app.name, app)
        return _start(name, [node, app], folder)
    return start


def _python(name):
    def start(folder):
        home = cache_dir() / "python" / _folder_name(PYTHON_PACKAGES)
        python = home / "venv" / "bin" / "python"
        _install(home, [[sys.executable, "-m", "venv", home / "venv"],
                        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PYTHON_PACKAGES]], "Starlette and Flask")
        return _start(name, [python, "-u", APPS / f"{name}_app.py"], folder)
    return start


def _go(folder):
    go = _program("go", "/usr/local/go/bin:/usr/lib/go/bin")
    binary = pathlib.Path(folder) / "go_app"
    try:
        subprocess.run([go, "build", "-o", binary, APPS / "go_app.go"], check=True, timeout=INSTALL_TIMEOUT_S, stdout=subprocess.DEVNULL,
                       stderr=subprocess.PIPE)
    except (subprocess.SubprocessError, OSError) as error:
        detail = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        raise Unavailable(f"the Go app cannot be built: {detail or error}") from error
    return _start("go", [binary], folder)


def _nginx(folder):
    nginx = _program("nginx", "/usr/sbin:/sbin")
    folder = pathlib.Path(folder) / "nginx"
    folder.mkdir()
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text((APPS / "nginx.conf").read_text().replace("FOLDER", str(folder)).replace("PORT", str(port)))
    process = Process("nginx", [nginx, "-p", folder, "-c", config, "-e", "stderr"], folder).spawn()
    wait_until(lambda: (folder / "nginx.pid").exists() and (folder / "nginx.pid").read_text().strip(), START_TIMEOUT_S, "nginx runs")
    return PathServer(process, f"127.0.0.1:{port}")


SERVERS = {"express": _node("express"), "fastify": _node("fastify"), "hono": _node("hono"), "starlette": _python("starlette"),
           "flask": _python("flask"), "go": _go, "nginx": _nginx}
