"""Alerts, recording rules, dashboard, runbooks and the health script for Argo CD: true to what is there, and tested on figures."""

import json
import re
import shutil
import subprocess
import tempfile
import unittest

import yaml

from tests.support.helm import CHART, ROOT, find, objects, template
from tests.support.kube import tool
from tests.support.servers import Postgres
from tests.support.stack import binary
from tests.support.tools import skip_loudly

FILES = CHART / "files"
RULES = FILES / "rules.yaml"
RULES_TEST = ROOT / "tests" / "chart" / "rules_test.yaml"
RUNBOOKS = ROOT / "docs" / "runbooks"


def rules():
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def known_metrics():
    """Name → type: the operator's golden list, and what the sidecar's export names."""
    known = dict(line.split()[:2] for line in (ROOT / "tests" / "golden" / "metrics.txt").read_text().splitlines())
    source = (ROOT / "sidecar" / "main" / "metrics_export.cc").read_text()
    for kind, name in re.findall(r'scrape\.(counter|gauge|histogram)\(\s*"(tallygate_sidecar_\w+)"', source):
        known[name] = kind
    known.update({rule["record"]: "recorded" for rule in rules() if "record" in rule})
    return known


def metrics_of(expression):
    """The series that an expression names, those of histograms by their family."""
    known = known_metrics()
    for name in re.findall(r"\b(?:tallygate|process)_\w+|\b(?:namespace|tallygate):\w+:\w+", expression):
        family = re.sub(r"_(bucket|sum|count)$", "", name)
        yield family if known.get(family) == "histogram" else name


class Rules(unittest.TestCase):
    def test_prometheus_takes_them(self):
        done = subprocess.run([tool("promtool"), "check", "rules", "--lint=all", "--lint-fatal", RULES], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_they_fire_where_they_must_and_nowhere_else(self):
        done = subprocess.run([tool("promtool"), "test", "rules", RULES_TEST], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_each_alert_is_tested_to_fire(self):
        fired = {check["alertname"] for case in yaml.safe_load(RULES_TEST.read_text())["tests"] for check in case["alert_rule_test"] if check["exp_alerts"]}
        self.assertEqual(sorted(fired), sorted(alerts()))

    def test_they_name_series_that_there_are(self):
        known = known_metrics()
        for rule in rules():
            named = set(metrics_of(rule["expr"]))
            self.assertTrue(named, rule)
            self.assertEqual(named - set(known), set(), rule.get("alert") or rule["record"])

    def test_they_name_reasons_and_results_that_there_are(self):
        reasons = re.findall(r'"(\w+)"', (ROOT / "core" / "reason.h").read_text())
        golden = (ROOT / "tests" / "golden" / "metrics.txt").read_text()
        results = re.search(r"stripe_submissions_total counter result=(\S+)", golden)[1].split("|")
        for rule in rules():
            for label, values in re.findall(r'(reason|result)[!=]~?"([^"]+)"', rule["expr"]):
                self.assertEqual(set(values.split("|")) - set(reasons if label == "reason" else results), set(), rule)

    def test_each_has_severity_summary_and_a_page(self):
        for name, rule in alerts().items():
            with self.subTest(name):
                self.assertIn(rule["labels"]["severity"], ("warning", "critical"))
                self.assertTrue(rule["annotations"]["summary"])
                self.assertEqual(rule["annotations"]["runbook_url"], f"https://tallygate.dev/runbooks/{name}")
                page = (RUNBOOKS / f"{name}.md").read_text()
                self.assertTrue(page.startswith(f"# {name}\n"))
                self.assertIn("## Look", page)
                self.assertIn("## Do", page)
                self.assertIn(f"({name}.md)", (RUNBOOKS / "README.md").read_text())

    def test_the_chart_has_them_with_a_runbook_base_of_ones_own(self):
        documents = objects(template("--set", "monitoring.runbookBase=https://wiki.example/tallygate", values="production").stdout)
        groups = find(documents, "PrometheusRule")["spec"]["groups"]
        text = RULES.read_text().replace("https://tallygate.dev/runbooks", "https://wiki.example/tallygate")
        self.assertEqual(groups, yaml.safe_load(text)["groups"])


class Runbooks(unittest.TestCase):
    def test_they_name_alerts_and_series_that_there_are(self):
        known = known_metrics()
        for path in RUNBOOKS.glob("Tallygate*.md"):
            with self.subTest(path.stem):
                text = path.read_text()
                self.assertIn(path.stem, alerts())
                self.assertEqual(set(re.findall(r"\bTallygate[A-Z]\w+", text)) - set(alerts()), set())
                self.assertEqual(set(metrics_of(text)) - set(known), set())

    def test_their_queries_run_on_the_ledger(self):
        queries = {query.replace("\n", " ") for path in RUNBOOKS.glob("*.md") for query in re.findall(r"`(select [^`]+;)`", path.read_text())}
        self.assertGreater(len(queries), 5)
        folder = tempfile.mkdtemp(prefix="tallygate-runbooks-")
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        ledger = Postgres(folder).start()
        self.addCleanup(ledger.remove)
        subprocess.run([binary("tallygate-operator"), "migrate", "--database-url", ledger.url], check=True, capture_output=True)
        for query in queries:
            with self.subTest(query):
                ledger.query(query)


class Dashboard(unittest.TestCase):
    def setUp(self):
        self.panels = json.loads((FILES / "dashboard.json").read_text())["panels"]

    def test_panels_name_series_that_there_are(self):
        known = known_metrics()
        for panel in self.panels:
            for target in panel.get("targets", []):
                with self.subTest(f"{panel['title']}: {target['expr']}"):
                    named = set(metrics_of(target["expr"]))
                    self.assertTrue(named)
                    self.assertEqual(named - set(known), set())

    def test_prometheus_takes_their_queries(self):
        groups = {"groups": [{"name": "panels", "rules": []}]}
        for panel in self.panels:
            for target in panel.get("targets", []):
                expression = re.sub(r"\$\w+", ".*", re.sub(r"\$__\w+", "5m", target["expr"]))
                groups["groups"][0]["rules"].append({"record": f"panel:p{panel['id']}:{target['refId']}", "expr": expression})
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(groups, file)
            file.flush()
            done = subprocess.run([tool("promtool"), "check", "rules", "--lint=none", file.name], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_no_two_panels_overlap(self):
        taken = {}
        for panel in self.panels:
            place = panel["gridPos"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    self.assertEqual(taken.setdefault((x, y), panel["id"]), panel["id"], panel["title"])

    def test_the_chart_has_it_whole(self):
        rendered = find(objects(template(values="production").stdout), "ConfigMap")["data"]["tallygate.json"]
        self.assertEqual(json.loads(rendered)["panels"], self.panels)


class ArgoHealth(unittest.TestCase):
    """Argo CD runs the script with Lua 5.1's language, the object as the global `obj`."""

    CASES = {
        "new, without a status": ({}, None, "Progressing"),
        "conditions unknown": ({}, {"Accepted": ("Unknown", 1), "Ready": ("Unknown", 1)}, "Progressing"),
        "accepted, not yet in force": ({}, {"Accepted": ("True", 1), "Ready": ("Unknown", 1)}, "Progressing"),
        "in force": ({}, {"Accepted": ("True", 1), "Ready": ("True", 1)}, "Healthy"),
        "the generation before is in force": ({"generation": 2}, {"Accepted": ("True", 1), "Ready": ("True", 1)}, "Progressing"),
        "the new one is accepted, the old in force": ({"generation": 2}, {"Accepted": ("True", 2), "Ready": ("True", 1)}, "Progressing"),
        "refused": ({"generation": 2}, {"Accepted": ("False", 2), "Ready": ("False", 2)}, "Degraded"),
        "not published": ({}, {"Accepted": ("True", 1), "Ready": ("False", 1)}, "Degraded"),
        "a used-up balance is no ill health": ({}, {"Accepted": ("True", 1), "Ready": ("True", 1), "BalanceHealthy": ("False", 1)}, "Healthy"),
        "being deleted": ({"deletionTimestamp": "2026-12-01T00:00:00Z"}, {"Accepted": ("True", 1), "Ready": ("True", 1)}, "Progressing"),
    }

    def test_health(self):
        lua = shutil.which("lua5.1") or shutil.which("luajit")
        if lua is None:
            skip_loudly("there is no Lua 5.1 to run the health script of Argo CD: apt-get install lua5.1")
        for name, (metadata, conditions, wanted) in self.CASES.items():
            with self.subTest(name):
                program = f"obj = {self.literal(metadata, conditions)}\nlocal health = (function() {(FILES / 'argocd' / 'health.lua').read_text()}\nend)()\n" \
                          "io.write(health.status, '\\n', health.message)"
                done = subprocess.run([lua, "-e", program], capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                status, _, message = done.stdout.partition("\n")
                self.assertEqual(status, wanted)
                self.assertTrue(message)

    def literal(self, metadata, conditions):
        fields = ", ".join(f"{key} = {json.dumps(value)}" for key, value in {"generation": 1, **metadata}.items())
        if conditions is None:
            return f"{{metadata = {{{fields}}}}}"
        listed = ", ".join(f'{{type = "{kind}", status = "{status}", observedGeneration = {generation}, reason = "Reason", message = "message"}}'
                           for kind, (status, generation) in conditions.items())
        return f"{{metadata = {{{fields}}}, status = {{conditions = {{{listed}}}}}}}"


if __name__ == "__main__":
    unittest.main()
