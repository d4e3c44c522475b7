"""The CRDs on a real API server: what the decoder of manifests refuses is refused at apply, what it takes is taken, and kubectl
behaves as people expect. Requirement E1; the tables are those of tests/unit/manifest/malformed_test.cc, so that the two sets of rules cannot
drift apart unseen.
"""

import concurrent.futures
import json
import unittest

from scripts import manual
from tests.support.kube import ROOT, ControlPlane

MANIFESTS = ROOT / "tests" / "golden" / "manifests"
GROUP = "/apis/billing.tallygate.dev/v1alpha1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = ("billingplans", "billingpolicies", "billingtenants")
APPLY_BYTES_MAX = 262_144  # of the annotation that `kubectl apply` keeps

# The malformed cases that `kubectl apply` lets pass, and why that is well.
YAML = "kubectl reads YAML leniently: what it sends is valid, and means one thing"
FILLED_IN = "kubectl fills in the namespace, or leaves it away"
WEBHOOK = "CEL cannot see it: the validating webhook refuses it, and the condition Accepted says so"
PASS = {
    "custom tag": YAML,
    "binary tag": YAML,
    "kind given twice": YAML,
    "spec field given twice": YAML,
    "perUnits in octal": YAML,
    "perUnits in hexadecimal": YAML,
    "perUnits with underscores": YAML,
    "perUnits with an exponent": YAML,
    "suspend is yes": YAML,
    "plan in a namespace": FILLED_IN,
    "tenant without namespace": FILLED_IN,
    "policy without namespace": FILLED_IN,
    "default-plan annotation": WEBHOOK,
    "time zone unknown": WEBHOOK,
}


def cases(file):
    return [json.loads(line) for line in (MANIFESTS / file).read_text().splitlines()]


def spoiled(case):
    text = (MANIFESTS / f"{case['document']}.yaml").read_text()
    before, found, after = text.partition(case["piece"])
    assert found, case["name"]
    return before + case["replacement"].replace("^", "", 1) + after if "field" in case else before + case["replacement"] + after


class KubeCrds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.kube = ControlPlane().start()
        cls.addClassCleanup(cls.kube.remove)
        cls.kube.apply(ROOT / "crds")  # client side: an annotation holds each of them whole
        cls.applied_again = cls.kube.apply(ROOT / "crds")
        cls.kube.install_crds()
        cls.kube.make_namespace("shop")

    def dry_run(self, text):
        """→ (accepted, what kubectl said)."""
        status, output = self.kube.kubectl("create", "--dry-run=server", "-f", "-", stdin=text, check=False)
        return status == 0, output

    # ---- one set of rules

    def test_what_the_decoder_refuses_is_refused_at_apply(self):
        table = cases("malformed.jsonl")
        self.assertGreaterEqual(len(table), 200)
        self.assertEqual(set(PASS) - {case["name"] for case in table}, set(), "no such cases")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            judged = list(zip(table, pool.map(lambda case: self.dry_run(spoiled(case)), table)))
        for case, (accepted, output) in judged:
            with self.subTest(case["name"]):
                self.assertEqual(accepted, case["name"] in PASS, f"{case['field']}: {case['reason']}: {output}\n{spoiled(case)}")
                if not accepted and not output.startswith("error: "):  # by kubectl itself, which knows no fields
                    names = case["field"].split(".")[-2:]
                    self.assertTrue(any(name.partition("[")[0] in output for name in names), f"{case['field']} is not named: {output}")

    def test_what_the_decoder_takes_is_taken(self):
        texts = [spoiled(case) for case in cases("valid.jsonl")]
        texts += [(MANIFESTS / file).read_text() for file in ("plan.yaml", "tenant.yaml", "policy.yaml")]
        accepted, output = self.dry_run("---\n".join(texts))
        self.assertTrue(accepted, output)
        self.assertEqual(output.count(" created (server dry run)\n"), len(texts), output)

    def test_prices_never_change_and_limits_may(self):
        plan = (MANIFESTS / "plan.yaml").read_text().replace("standard-v1", "immutable-v1")
        self.kube.apply(plan)
        status, output = self.kube.kubectl("apply", "-f", "-", stdin=plan.replace('"0.40"', '"0.50"'), check=False)
        self.assertNotEqual(status, 0)
        self.assertIn("prices never change", output)
        self.assertIn("configured", self.kube.apply(plan.replace("amount: 1000", "amount: 2000")))

    # ---- as people use it

    def test_examples_applied_twice_are_unchanged_and_without_difference(self):
        with ControlPlane() as kube:  # where there is nothing yet
            kube.install_crds()
            first = kube.apply(ROOT / "examples").splitlines()
            self.assertTrue(first and all(line.endswith(" created") for line in first), first)
            again = kube.apply(ROOT / "examples").splitlines()
            self.assertEqual(len(again), len(first))
            self.assertTrue(all(line.endswith(" unchanged") for line in again), again)
            self.assertEqual(kube.kubectl("diff", "-f", ROOT / "examples", check=False), (0, ""))
            tenant = kube.get(f"{GROUP}/namespaces/shop/billingtenants/acme")
            conditions = {c["type"]: (c["status"], c["reason"]) for c in tenant["status"]["conditions"]}
            self.assertEqual(conditions, dict.fromkeys(("Accepted", "Programmed", "Ready"), ("Unknown", "Pending")))
            for resource in ("bplan", "btenant", "bpolicy"):
                self.assertNotIn("No resources", kube.kubectl("get", resource, "-n", "shop"))
            header, first, *_ = kube.kubectl("get", "btenant", "-n", "shop").splitlines()
            self.assertEqual(header.split(), ["NAME", "PLAN", "READY", "STATE", "USED%", "BALANCE", "AGE"])
            self.assertEqual(first.split()[:3], ["acme", "standard-v1", "Unknown"])
            listed = kube.kubectl("get", "tallygate", "-n", "shop", "-o", "name")
            for kind in ("billingplan", "billingtenant", "billingpolicy"):
                self.assertIn(f"{kind}.billing.tallygate.dev/", listed)
            every_field = (MANIFESTS / "resources.yaml").read_text().replace("standard-v1", "documented-v1")
            kube.apply(every_field)
            self.assertEqual(kube.kubectl("diff", "-f", "-", stdin=every_field, check=False), (0, ""))

    def test_two_managers_do_not_fight(self):
        path = f"{GROUP}/namespaces/shop/billingtenants/shared"
        spec = {"apiVersion": "billing.tallygate.dev/v1alpha1", "kind": "BillingTenant", "metadata": {"name": "shared", "namespace": "shop"},
                "spec": {"planRef": {"name": "standard-v1"}, "limitOverrides": [{"name": "calls-month", "amount": 7}]}}
        ours = {"apiVersion": spec["apiVersion"], "kind": spec["kind"], "metadata": {"name": "shared", "namespace": "shop"},
                "status": {"observedGeneration": 1, "state": "ok", "usedPercent": 1, "balance": "61.90 GBP",
                           "period": {"start": "2026-12-01T00:00:00Z", "end": "2027-01-01T00:00:00Z"},
                           "usage": [{"limit": "calls-month", "meter": "api_calls", "window": "Month", "amount": 7, "used": 1, "state": "ok",
                                      "resetsAt": "2027-01-01T00:00:00Z"}],
                           "stripe": {"customerID": "cus_a", "subscriptionID": "sub_a"}, "sidecars": [{"version": "0.1.0", "count": 2}],
                           "conditions": [{"type": name, "status": "True", "observedGeneration": 1, "lastTransitionTime": "2026-12-01T00:00:00Z",
                                           "reason": "Ok", "message": ""} for name in ("Accepted", "Programmed", "Ready", "BalanceHealthy")]}}
        finalizer = {**ours, "metadata": {**ours["metadata"], "finalizers": ["billing.tallygate.dev/final-usage"]}}
        del finalizer["status"]
        other = {**spec, "spec": {"planRef": {"name": "standard-v1"}, "limitOverrides": [{"name": "runs-month", "amount": 9}]}}

        def apply(manager, body, subresource=""):
            status, answer = self.kube.request("PATCH", f"{path}{subresource}?fieldManager={manager}", body, "application/apply-patch+yaml")
            self.assertIn(status, (200, 201), answer)
            return answer

        rounds = []
        for _ in range(3):
            apply("gitops", spec)
            apply("tallygate-operator", ours, "/status")
            apply("tallygate-operator-finalizer", finalizer)
            rounds.append(apply("people", other))
        last = rounds[-1]
        self.assertEqual({rounds[1]["metadata"]["resourceVersion"], last["metadata"]["resourceVersion"]}, {rounds[0]["metadata"]["resourceVersion"]})
        self.assertEqual({item["name"]: item["amount"] for item in last["spec"]["limitOverrides"]}, {"calls-month": 7, "runs-month": 9})
        self.assertEqual(last["metadata"]["finalizers"], ["billing.tallygate.dev/final-usage"])
        self.assertEqual({c["type"]: c["status"] for c in last["status"]["conditions"]},
                         dict.fromkeys(("Accepted", "Programmed", "Ready", "BalanceHealthy"), "True"))
        self.assertEqual(last["status"]["usage"], ours["status"]["usage"])
        self.assertEqual(last["metadata"]["generation"], 2)  # of the two managers' specs, none of status
        status, _ = self.kube.request("PATCH", f"{path}?fieldManager=tallygate-operator-finalizer", {**finalizer, "metadata": ours["metadata"]},
                                      "application/apply-patch+yaml")
        self.assertEqual(status, 200)
        self.kube.kubectl("delete", "btenant", "shared", "-n", "shop")

    # ---- as it is documented

    def test_every_field_is_described(self):
        def walk(schema, path):
            if not path.endswith(".metadata"):  # Kubernetes has one of its own
                self.assertTrue(schema.get("description"), f"{path} has no description")
            for name, below in schema.get("properties", {}).items():
                walk(below, f"{path}.{name}")
            for key in ("items", "additionalProperties"):
                if key in schema:
                    walk(schema[key], f"{path}[]")

        for kind in KINDS:
            crd = self.kube.get(f"{CRDS}/{kind}.billing.tallygate.dev")
            walk(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], kind)
            for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]:
                self.assertTrue(column.get("description"), f"{kind}: column {column['name']}")
            self.assertEqual([c["reason"] for c in crd["status"]["conditions"] if c["type"] == "NonStructuralSchema"], [])
        self.assertIn("How far below zero the balance may go", self.kube.kubectl("explain", "btenant.spec.wallet.debtLimit"))
        self.assertIn("prices never change", self.kube.kubectl("explain", "bplan").lower())

    def test_each_is_small_enough_for_kubectl_apply(self):
        self.assertEqual(self.applied_again.count(" unchanged\n"), len(KINDS), self.applied_again)
        for kind in KINDS:
            crd = self.kube.get(f"{CRDS}/{kind}.billing.tallygate.dev")
            kept = crd["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"]
            self.assertLess(len(kept), APPLY_BYTES_MAX // 2)
            self.assertEqual({c["type"]: c["status"] for c in crd["status"]["conditions"]}["Established"], "True")

    def test_the_manual_is_current(self):
        crds = [self.kube.get(f"{CRDS}/{kind}.billing.tallygate.dev") for kind in manual.KINDS]
        self.assertEqual(manual.PATH.read_text(), manual.text(crds), f"{manual.PATH} is not what crds/ say: run python3 -m scripts.manual")


if __name__ == "__main__":
    unittest.main()
