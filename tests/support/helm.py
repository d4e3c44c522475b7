"""The chart's tools: helm, kubeconform and promtool, of scripts/kubernetes.sh, and what helm makes of the chart."""

import functools
import pathlib
import subprocess

import yaml

from tests.support.tools import skip_loudly

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "tallygate"
VALUES = ROOT / "tests" / "chart" / "values"
NAMESPACE = "tallygate-system"
# Without a cluster helm takes the version from its own build.
KUBE_VERSION = "1.35.0"
BUILD_TIMEOUT_S = 1200


@functools.lru_cache
def tool(name):
    """Path of helm, kubeconform or promtool, built where it is missing. Skips the calling test where it cannot be."""
    script = ROOT / "scripts" / "kubernetes.sh"
    path = pathlib.Path(subprocess.run([script, "path", name], capture_output=True, text=True, check=True).stdout.strip())
    if not path.exists():
        built = subprocess.run([script, "tools", name], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        if built.returncode != 0:
            skip_loudly(f"{name} cannot be had: {built.stderr.strip().splitlines()[-1:]}")
    return str(path)


def run_helm(*args, check=True, **kwargs):
    done = subprocess.run([tool("helm"), *map(str, args)], capture_output=True, text=True, **kwargs)
    if check and done.returncode != 0:
        raise AssertionError(f"helm {' '.join(map(str, args))}: {done.stderr}")
    return done


def template(*args, values=None, release="tallygate", check=True):
    """What would be applied, as text."""
    files = ["--values", VALUES / f"{values}.yaml"] if values else []
    return run_helm("template", release, CHART, "--namespace", NAMESPACE, "--kube-version", KUBE_VERSION, *files, *args, check=check)


def objects(text):
    return [document for document in yaml.safe_load_all(text) if document]


def find(documents, kind, name=None):
    found = [d for d in documents if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert found, f"no {kind} {name or ''}"
    return found[0]
