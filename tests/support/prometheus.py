"""A real Prometheus on loopback: scrapes what it is told, answers queries.

    with Prometheus(folder, {"operator": [operator.admin_address]}) as prometheus:
        prometheus.value('sum(tallygate_operator_booked_units_total)')

The one of PATH, else Debian's package unpacked into the user's cache (no service is installed), else built by scripts/kubernetes.sh.
"""

import http.client
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import urllib.parse

from tests.support import kube
from tests.support.process import Process, free_port
from tests.support.tools import cache_dir

READY_TIMEOUT_S = 60


def binary():
    found = shutil.which("prometheus")
    if found:
        return found
    unpacked = cache_dir() / "tools" / "prometheus-debian"
    if not (unpacked / "usr/bin/prometheus").exists() and not _unpack_debian(unpacked):
        return kube.tool("prometheus")
    return str(unpacked / "usr/bin/prometheus")


def promtool():
    """Of the same package."""
    beside = pathlib.Path(binary()).with_name("promtool")
    return str(beside) if beside.exists() else kube.tool("promtool")


def _unpack_debian(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
        try:
            subprocess.run(["apt-get", "download", "-qq", "prometheus"], cwd=partial, check=True, capture_output=True, timeout=120)
            package = next(pathlib.Path(partial).glob("prometheus_*.deb"))
            subprocess.run(["dpkg-deb", "-x", package, os.path.join(partial, "root")], check=True, capture_output=True)
            os.rename(os.path.join(partial, "root"), folder)
        except (OSError, StopIteration, subprocess.SubprocessError):
            return (folder / "usr/bin/prometheus").exists()  # another was faster
    return True


class Prometheus:
    def __init__(self, folder, jobs, rule_files=(), interval="1s"):
        """`jobs`: name → addresses, or a scrape configuration's further fields (such as file_sd_configs)."""
        self.folder = pathlib.Path(folder) / "prometheus"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        # JSON is YAML.
        (self.folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": interval, "evaluation_interval": interval},
            "rule_files": [str(file) for file in rule_files],
            "scrape_configs": [{"job_name": name, **(job if isinstance(job, dict) else {"static_configs": [{"targets": job}]})}
                               for name, job in jobs.items()]}))

    def __enter__(self):
        argv = [binary(), f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"]
        self.process = Process("prometheus", argv, self.folder).spawn()
        self.process.wait_ready(lambda: self._get("/-/ready")[0] == 200, READY_TIMEOUT_S, "is ready")
        return self

    def __exit__(self, *_):
        self.process.kill9()

    def _get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def query(self, expression):
        """→ the samples: [(labels, value)]. Raises ValueError where it is no query."""
        status, text = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        answer = json.loads(text)
        if status != 200 or answer["status"] != "success":
            raise ValueError(f"{expression}: {answer.get('error', text)}")
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]]

    def value(self, expression):
        """Of a query with one sample; None where there is none."""
        samples = self.query(expression)
        if len(samples) > 1:
            raise ValueError(f"{expression}: {len(samples)} samples")
        return samples[0][1] if samples else None
