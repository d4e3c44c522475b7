"""The Helm chart as files: lint, golden files, the values' schema, permissions, webhooks, flags, CRDs. test_chart_cluster.py installs it."""

import difflib
import json
import os
import re
import subprocess
import unittest

import yaml

from tests.support.helm import CHART, NAMESPACE, ROOT, VALUES, find, objects, run_helm, template
from tests.support.stack import binary

GOLDEN = ROOT / "tests" / "golden" / "chart"
KINDS = sorted(path.stem for path in VALUES.glob("*.yaml"))
BILLING = "billing.tallygate.dev"
# Values whose content is Kubernetes' affair, or a map of anybody's names.
FREE = {"global", "settings", "resources", "nodeSelector", "affinity", "podSecurityContext", "labels", "annotations", "podAnnotations", "podLabels"}


class Rendered(unittest.TestCase):
    def test_lint_is_silent(self):
        for kind in KINDS:
            with self.subTest(kind):
                done = run_helm("lint", "--strict", CHART, "--kube-version", "1.35.0", "--values", VALUES / f"{kind}.yaml", "--quiet")
                self.assertEqual(done.stdout.strip(), "")

    def test_it_is_of_the_programs_version(self):
        version = re.search(r"project\(tallygate VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())[1]
        self.assertEqual(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"], version)
        self.assertIn(f"ARG VERSION={version}\n", (ROOT / "Dockerfile").read_text())

    def test_golden_files(self):
        """TALLYGATE_UPDATE_GOLDEN=1 writes them anew. CRDs, rules and dashboard, which have tests of their own, are left out."""
        for kind in KINDS:
            with self.subTest(kind):
                text = template("--set", "crds.enabled=false,monitoring.rules.enabled=false,monitoring.dashboard.enabled=false", values=kind).stdout
                path = GOLDEN / f"{kind}.yaml"
                if os.environ.get("TALLYGATE_UPDATE_GOLDEN"):
                    path.write_text(text)
                wanted = path.read_text() if path.exists() else ""
                difference = "".join(difflib.unified_diff(wanted.splitlines(True), text.splitlines(True), str(path), "rendered"))
                self.assertEqual(difference, "", "look at it, then TALLYGATE_UPDATE_GOLDEN=1")

    def test_every_object_says_where_it_is_and_whose(self):
        for kind in KINDS:
            for document in objects(template(values=kind).stdout):
                name = f"{kind}: {document['kind']} {document['metadata']['name']}"
                with self.subTest(name):
                    labels = document["metadata"]["labels"]
                    self.assertEqual(labels["app.kubernetes.io/instance"], "tallygate")
                    self.assertEqual(labels["app.kubernetes.io/managed-by"], "Helm")
                    cluster_wide = document["kind"].startswith(("Cluster", "CustomResource", "Validating", "Mutating"))
                    self.assertEqual("namespace" in document["metadata"], not cluster_wide)

    def test_the_crds_are_those_of_the_folder(self):
        documents = objects(template(values="trial").stdout)
        rendered = {d["metadata"]["name"]: d for d in documents if d["kind"] == "CustomResourceDefinition"}
        folder = {}
        for path in (ROOT / "crds").glob("*.yaml"):
            folder.update({d["metadata"]["name"]: d for d in objects(path.read_text())})
        self.assertEqual(sorted(rendered), sorted(folder))
        for name, crd in rendered.items():
            self.assertEqual(crd["spec"], folder[name]["spec"], name)
            self.assertEqual(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep")
            # kubectl apply keeps the whole object in an annotation of at most 262,144 bytes.
            self.assertLess(len(json.dumps(crd)), 250_000, name)
        for crd in objects(template("--set", "crds.keep=false", values="trial").stdout):
            if crd["kind"] == "CustomResourceDefinition":
                self.assertNotIn("helm.sh/resource-policy", crd["metadata"].get("annotations") or {})

    def test_every_flag_is_one_of_the_program(self):
        awaited = {"secret-namespaces"}  # of the Kubernetes source, which is to come
        known = subprocess.run([binary("tallygate-operator"), "run", "--help"], capture_output=True, text=True, check=True).stdout
        flags = set(re.findall(r"^ +--(?:\[no-\])?([a-z-]+)", known, re.MULTILINE))
        for kind in KINDS:
            container = find(objects(template(values=kind).stdout), "Deployment", "billing-operator" if kind == "narrow" else "tallygate-operator")
            args = container["spec"]["template"]["spec"]["containers"][0]["args"]
            self.assertEqual(args[0], "run")
            for arg in args[1:]:
                with self.subTest(f"{kind}: {arg}"):
                    flag = arg.removeprefix("--").partition("=")[0]
                    self.assertTrue(flag in flags | awaited)

    def test_what_nobody_sets_is_not_secret(self):
        """A URL with a password stands in Secrets only."""
        for document in objects(template(values="trial").stdout):
            if document["kind"] != "Secret":
                self.assertNotIn("trial", json.dumps(document))


class Values(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def refused(self, *args, word):
        done = template(*args, check=False)
        self.assertNotEqual(done.returncode, 0, args)
        self.assertIn(word, done.stderr)

    def test_a_typo_anywhere_is_told(self):
        def paths(values, path=()):
            yield path
            for key, value in values.items():
                if isinstance(value, dict) and key not in FREE:
                    yield from paths(value, (*path, key))

        for path in paths(self.defaults):
            with self.subTest(".".join(path)):
                self.refused("--values", VALUES / "trial.yaml", "--set", ".".join((*path, "tpyo")) + "=1", word="tpyo")

    def test_every_default_is_in_the_schema_and_the_other_way_round(self):
        schema = json.loads((CHART / "values.schema.json").read_text())

        def compare(values, rule, path):
            rule = schema["definitions"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
            if not isinstance(values, dict) or "properties" not in rule or "patternProperties" in rule:
                return
            self.assertEqual(sorted(set(rule["properties"]) - {"global", "enabled"} | set(values) & {"enabled"}), sorted(values), path)
            for key, value in values.items():
                compare(value, rule["properties"][key], f"{path}.{key}")

        compare(self.defaults, schema, "")

    def test_wrong_values_are_refused_with_their_names(self):
        for setting, word in {"replicas=0": "replicas", "webhook.port=99999": "port", "webhook.inject.timeoutSeconds=60": "timeoutSeconds",
                              "secretNamespaces={Shop}": "secretNamespaces", "api.service.type=External": "type", "image.digest=sha256:12": "digest",
                              "image.repository=a:b": "repository", "settings.redis-url=redis://x": "settings", "settings.Port=1": "settings",
                              "log.level=loud": "level", "monitoring.serviceMonitor.interval=30": "interval",
                              "postgres.bundled.storage=lots": "storage"}.items():
            with self.subTest(setting):
                self.refused("--values", VALUES / "trial.yaml", "--set", setting, word=word)

    def test_what_is_missing_is_told_with_what_to_do(self):
        self.refused("--set", "postgres.bundled.enabled=true", word="redis.bundled.enabled=true")
        self.refused("--set", "redis.bundled.enabled=true", word="postgres.existingSecret.name")
        trial = ("--values", VALUES / "trial.yaml")
        self.refused(*trial, "--set", "stripe.enabled=true", word="stripe.existingSecret.name")
        self.refused(*trial, "--set", "api.enabled=true", word="api.tls.secretName")
        self.refused(*trial, "--set", "api.enabled=true,api.insecure=true", word="nobody could call it")
        self.refused(*trial, "--set", "api.enabled=true,api.insecure=true,api.jwks.secretName=keys", word="api.jwks.issuer")
        self.refused(*trial, "--set", "serviceAccount.create=false", word="serviceAccount.name")

    def test_as_a_part_of_another_chart(self):
        """Helm adds `global`, and a condition adds `enabled`."""
        template("--set", "global.registry=x,enabled=true", values="trial")


class Permissions(unittest.TestCase):
    def setUp(self):
        self.documents = objects(template(values="production").stdout)

    def rules(self, *kinds):
        for document in self.documents:
            if document["kind"] in kinds:
                for rule in document["rules"]:
                    yield document["metadata"], rule

    def test_no_wildcards_and_no_secrets_of_the_cluster(self):
        for metadata, rule in self.rules("ClusterRole", "Role"):
            self.assertNotIn("*", rule["verbs"] + rule["resources"] + rule["apiGroups"], metadata["name"])
        for metadata, rule in self.rules("ClusterRole"):
            self.assertNotIn("secrets", rule["resources"], metadata["name"])
            self.assertTrue(set(rule["verbs"]).isdisjoint({"escalate", "bind", "impersonate"}))

    def test_secrets_by_name_or_in_the_namespaces_that_are_listed(self):
        for metadata, rule in self.rules("Role"):
            if "secrets" not in rule["resources"]:
                continue
            if metadata["namespace"] == NAMESPACE:
                self.assertTrue(rule["verbs"] == ["create"] or rule["resourceNames"] == ["tallygate-webhook-certificates"])
            elif metadata["name"].endswith("-sidecars"):
                self.assertEqual(metadata["namespace"], "shop")
                self.assertTrue(rule["verbs"] == ["create"] or rule["resourceNames"] == ["tallygate-sidecar"])
            else:
                self.assertIn(metadata["namespace"], ("shop", "voice"))
                self.assertEqual(rule["verbs"], ["list", "watch"])

    def test_billing_roles_never_reach_edit_or_admin(self):
        people = [d for d in self.documents if d["kind"] == "ClusterRole" and d["metadata"]["name"] != "tallygate-operator"]
        self.assertEqual(len(people), 2)
        for role in people:
            self.assertFalse([label for label in role["metadata"]["labels"] if "aggregate" in label])
            for rule in role["rules"]:
                self.assertEqual(rule["apiGroups"], [BILLING])
                self.assertFalse([resource for resource in rule["resources"] if "status" in resource])
        self.assertFalse([d for d in self.documents if d["kind"] == "ClusterRoleBinding" and "billing-" in d["roleRef"]["name"]])


class Webhooks(unittest.TestCase):
    def setUp(self):
        documents = objects(template("--set", "webhook.excludedNamespaces={cni}", values="production").stdout)
        self.validate = find(documents, "ValidatingWebhookConfiguration")["webhooks"]
        self.inject = find(documents, "MutatingWebhookConfiguration")["webhooks"]

    def test_the_operator_alone_writes_the_authority(self):
        for webhook in self.validate + self.inject:
            self.assertNotIn("caBundle", webhook["clientConfig"])

    def test_validation_holds_nothing_up(self):
        self.assertEqual([w["failurePolicy"] for w in self.validate], ["Ignore", "Fail", "Fail"])
        for rule in self.validate[0]["rules"]:
            self.assertEqual(rule["operations"], ["CREATE", "UPDATE"])
            self.assertTrue(all("/" not in resource for resource in rule["resources"]), "status writes are the operator's own")

    def asked(self, namespace, namespace_labels=None, pod_labels=None):
        """Which webhooks an API server would call for a new pod."""
        namespace_labels = {"kubernetes.io/metadata.name": namespace, **(namespace_labels or {})}

        def matches(selector, labels):
            if not all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()):
                return False
            return all((labels.get(e["key"]) in e["values"]) == (e["operator"] == "In") for e in selector.get("matchExpressions", []))

        injected = [w for w in self.validate if ".injected." in w["name"]]
        for webhook, check in zip(self.inject, injected, strict=True):
            for part in ("namespaceSelector", "objectSelector", "rules", "failurePolicy"):
                self.assertEqual(webhook.get(part), check.get(part), "who is injected is looked at again")
        return [w["name"].partition(".")[0] for w in self.inject
                if matches(w["namespaceSelector"], namespace_labels) and matches(w.get("objectSelector", {}), pod_labels or {})]

    def test_injection_is_asked_of_those_who_want_it_and_once(self):
        self.assertEqual([w["failurePolicy"] for w in self.inject], ["Fail", "Fail"])
        on = {f"{BILLING}/inject": "enabled"}
        off = {f"{BILLING}/inject": "disabled"}
        self.assertEqual(self.asked("shop"), [])
        self.assertEqual(self.asked("shop", on), ["namespace"])
        self.assertEqual(self.asked("shop", {}, on), ["pod"])
        self.assertEqual(self.asked("shop", on, on), ["namespace"])
        self.assertEqual(self.asked("shop", on, off), ["namespace"], "whether a pod may opt out is the policy's to say")
        self.assertEqual(self.asked("shop", off, on), ["pod"])
        for excluded in ("kube-system", NAMESPACE, "cni"):
            self.assertEqual(self.asked(excluded, on, on), [], excluded)


class Pods(unittest.TestCase):
    def test_as_the_restricted_profile_wants_them(self):
        for document in objects(template(values="trial").stdout):
            pod = document["spec"] if document["kind"] == "Pod" else document.get("spec", {}).get("template", {}).get("spec")
            if not pod:
                continue
            with self.subTest(f"{document['kind']} {document['metadata']['name']}"):
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertEqual(pod["securityContext"]["seccompProfile"], {"type": "RuntimeDefault"})
                for container in pod["containers"]:
                    self.assertEqual(container["securityContext"],
                                     {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}})
                    self.assertIn("requests", container["resources"])
                    self.assertIn("memory", container["resources"]["limits"])
                if "tallygate-operator" in pod["containers"][0]["image"]:
                    self.assertIs(pod["enableServiceLinks"], False, "variables of Services called tallygate-… would look like settings")
                if pod.get("serviceAccountName") != "tallygate-operator":
                    self.assertFalse(pod["automountServiceAccountToken"])

    def test_a_new_version_of_the_chart_does_not_restart_the_bundled_servers(self):
        for document in objects(template(values="trial").stdout):
            if document["metadata"]["name"].endswith(("-redis", "-postgres")) and "template" in document.get("spec", {}):
                self.assertEqual(document["spec"]["template"]["metadata"]["labels"], document["spec"]["selector"]["matchLabels"])

    def test_selectors_do_not_change_with_the_version(self):
        for document in objects(template(values="trial").stdout):
            if document["kind"] in ("Deployment", "StatefulSet"):
                self.assertEqual(sorted(document["spec"]["selector"]["matchLabels"]),
                                 ["app.kubernetes.io/component", "app.kubernetes.io/instance", "app.kubernetes.io/name"])

    def test_a_pod_disruption_budget_needs_two(self):
        kinds = [d["kind"] for d in objects(template(values="narrow").stdout)]
        self.assertNotIn("PodDisruptionBudget", kinds)


if __name__ == "__main__":
    unittest.main()
