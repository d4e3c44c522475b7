"""Tools that tests use where they can be had: built once into ${XDG_CACHE_HOME:-~/.cache}/tallygate/tools, or skipped loudly."""

import os
import pathlib
import shutil
import subprocess
import sys
import unittest

STRIPE_MOCK = "github.com/stripe/stripe-mock@v0.203.0"
BUILD_TIMEOUT_S = 300


def cache_dir():
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "tallygate"


def skip_loudly(reason):
    """Skips the test, and says so where nobody overlooks it. The closing summary counts it as skipped."""
    print(f"\n*** SKIPPED: {reason} ***", file=sys.stderr, flush=True)
    raise unittest.SkipTest(reason)


def go_tool(module):
    """The path of a Go command, built on first use. Skips the calling test where Go or the module cannot be had."""
    name, _, version = module.rpartition("/")[2].partition("@")
    folder = cache_dir() / "tools" / f"{name}-{version}"
    binary = folder / name
    if binary.exists():
        return str(binary)
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin:/usr/lib/go/bin")
    if go is None:
        skip_loudly(f"{name} {version} is not built and there is no Go to build it")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"\nbuilding {name} {version} once, into {folder}", file=sys.stderr, flush=True)
    try:
        subprocess.run([go, "install", module], env={**os.environ, "GOBIN": str(folder)}, check=True, timeout=BUILD_TIMEOUT_S,
                       stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except (subprocess.SubprocessError, OSError) as error:
        detail = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()[-1:]
        skip_loudly(f"{name} {version} could not be built: {' '.join(detail) or error}")
    return str(binary)
