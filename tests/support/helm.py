"""What helm makes of the chart."""

import subprocess

import yaml

from tests.support.kube import ROOT, tool

CHART = ROOT / "charts" / "tallygate"
VALUES = ROOT / "tests" / "chart" / "values"
NAMESPACE = "tallygate-system"
# Without a cluster helm takes the version from its own build.
KUBE_VERSION = "1.35.0"


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
