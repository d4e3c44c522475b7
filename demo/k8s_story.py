"""The story on a node: each step runs what a platform team would type, and holds what comes back against what it told."""

import concurrent.futures
import json
import time

from demo import stripe
from demo.paper import curl
from demo.story import problem_of
from tests.support import shop
from tests.support.helm import NAMESPACE
from tests.support.process import wait_until
from tests.support.shop import CALL, KEY, LIMIT, SHOP
from tests.support.stack import TEST_KEY

METERS = ("api_calls", "agent_executions")
STATUS_TIMEOUT_S = 60
BILLED_TIMEOUT_S = 180  # aggregates are of whole minutes
AT_ONCE = 90
HOST_NETWORK = '{"spec": {"hostNetwork": true}}'
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


class Story:
    def __init__(self, machine, paper):
        self.machine = machine
        self.cluster = machine.cluster
        self.paper = paper
        self.began = int(time.time()) // 60 * 60
        self.service = self.customers = self.meters = None
        self.admitted = {"acme": 0, "globex": 0}

    def tell(self):
        for step in (self.the_chart, self.the_manifests, self.the_app, self.through_the_service, self.the_exact_unit, self.past_the_sidecar,
                     self.what_people_see, self.what_machines_see, self.mistakes, self.a_rolling_restart, self.the_bill):
            step()

    # ---- as a person types it

    def kubectl(self, *args, show=True, check=True, typed=None):
        """`typed`: what a person would type, where that is shorter."""
        if show:
            self.paper.command("kubectl " + (typed or " ".join(args)))
        said = self.cluster.kubectl(*args, check=check, timeout_s=180)
        text = said if check else said[1]
        if show:
            self.paper.output(text)
        return text

    def ask(self, path=CALL, key=KEY, show=True, body=False, headers=True):
        if show:
            self.paper.command(curl(self.machine.outside["service"], path, {"X-Api-Key": key} if key else {}))
        response = shop.ask(self.service, path, key)
        if response.status == 200 and path == CALL:
            self.admitted[key.rpartition("-")[2]] += 1
        if show:
            self.paper.answer(response, body, headers)
        return response

    # ---- the steps

    def the_chart(self):
        self.paper.step("One chart, and everything is in the cluster",
                        "The operator twice (one leads, one stands by), Redis for the quotas and PostgreSQL as the ledger.")
        base = self.machine.stripe_for_pods()
        self.customers, self.meters = stripe.set_up(self.machine.stripe.url, TEST_KEY, METERS, ("acme", "globex", "initech"))
        self.cluster.make_namespace(NAMESPACE)
        self.cluster.apply(shop.EXAMPLES / "00-namespace.yaml")
        self.kubectl("-n", NAMESPACE, "create", "secret", "generic", "stripe", f"--from-literal=api-key={TEST_KEY}", show=False)
        self.kubectl("-n", NAMESPACE, "create", "configmap", "stripe-authority", f"--from-file=ca.crt={self.cluster.ca_file}", show=False)
        with self.paper.doing("installing it, until it is ready"):
            values = shop.install(self.cluster, {
                "stripe": {"enabled": True, "existingSecret": {"name": "stripe"}},
                # Sooner than by default, for those who wait.
                "settings": {"stripe-api-base": base, "aggregate-interval": "2s", "submit-interval": "4s"},
                "extraVolumes": [{"name": "stripe-authority", "configMap": {"name": "stripe-authority"}}],
                "extraVolumeMounts": [{"name": "stripe-authority", "mountPath": CERTIFICATES, "subPath": "ca.crt", "readOnly": True}]})
            ready = self.cluster.wait_ready(NAMESPACE, shop.OPERATOR, count=2, timeout_s=180)
        self.paper.command(f"helm install tallygate charts/tallygate --namespace {NAMESPACE} --create-namespace --values {values}")
        self.paper.note("the values: redis.bundled.enabled, postgres.bundled.enabled, sidecar.namespaces: [shop], the images from above, and where Stripe is")
        self.kubectl("-n", NAMESPACE, "get", "pods")
        self.paper.check("both operators are ready", len(ready) == 2, len(ready))

    def the_manifests(self):
        self.paper.step("Plans, tenants and a policy are Kubernetes objects",
                        f"Prices and limits, who calls, what a route costs. Acme may make {LIMIT} calls a month. Nothing has been used yet.")
        self.kubectl("apply", "-f", str(shop.EXAMPLES), typed="apply -f examples/")
        for tenant in ("acme", "globex"):  # their names at the emulator; in the files they are placeholders
            patch = {"spec": {"billing": {"stripe": {"customerID": self.customers[tenant]}}}}
            self.kubectl("-n", SHOP, "patch", "btenant", tenant, "--type=merge", "-p", json.dumps(patch), show=False)
        acme = shop.wait_in_force(self.cluster, "billingtenants", "acme")
        shop.wait_in_force(self.cluster, "billingpolicies", "api")
        self.kubectl("get", "btenant", "-A")
        self.paper.note("READY: what the object says now is in force. USED% and STATE follow the usage.")
        self.paper.check("Acme's plan is in force and nothing is used", shop.used(acme) == 0, shop.used(acme))

    def the_app(self):
        self.paper.step("An app that knows nothing of it",
                        "An ordinary Deployment and Service. One label on its pods is all there is of Tallygate.")
        manifest = self.machine.folder / "app.yaml"
        manifest.write_text(shop.APP)
        self.paper.command(f"grep billing {manifest}")
        self.paper.output("".join(f"{line.strip()}\n" for line in shop.APP.splitlines() if "billing" in line))
        self.kubectl("apply", "-f", str(manifest))
        with self.paper.doing("until its two pods are ready"):
            pods = self.cluster.wait_ready(SHOP, "app=api", count=2, timeout_s=120)
        self.service = shop.service(self.cluster)
        self.machine.open("service", self.service)
        self.kubectl("-n", SHOP, "get", "pods")
        self.paper.check("each pod has its sidecar beside the app", all(map(shop.has_sidecar, pods)))
        written = self.cluster.get(f"/apis/apps/v1/namespaces/{SHOP}/deployments/api")["spec"]["template"]["spec"]["containers"][0]
        same = all(pod["spec"]["containers"][0].get(key) == written.get(key) for pod in pods for key in ("image", "args", "ports", "env"))
        self.paper.check("the app's image, arguments, ports and variables are as they were written", same)

    def through_the_service(self):
        self.paper.step("Traffic through the Service",
                        "It still names the app's port; the pod hands that port's traffic to the sidecar first.",
                        f"(From this machine the Service is http://{self.machine.outside['service']}; in the cluster, http://api.{SHOP})")
        response = self.ask(key=None)
        self.paper.check("no API key → 401, and the app never sees it", response.status == 401, response.status)
        response = self.ask("/healthz", key=None)
        self.paper.check("the policy exempts /healthz → 200", response.status == 200, response.status)
        response = self.ask()
        self.paper.check("Acme's key → 200", response.status == 200, response.status)
        left = response.headers.get("x-ratelimit-remaining")
        self.paper.check(f"{LIMIT - 1} are left", left == str(LIMIT - 1), left)

    def the_exact_unit(self):
        self.paper.step("The exact unit", f"{AT_ONCE} calls at once, over both pods, against the {LIMIT - 1} that are left. No pod asks another, or Redis,",
                        f"while a request waits: each holds a share in advance. Still not one call more than {LIMIT} may reach the app.")
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.ask(show=False), range(AT_ONCE)))
        passed = sum(answer.status == 200 for answer in answers)
        self.paper.note(f"answers: {passed} × 200, {sum(answer.status == 429 for answer in answers)} × 429")
        seen = shop.app_saw(self.cluster)
        self.paper.check(f"the app's two pods saw exactly {LIMIT} calls between them", seen == LIMIT, seen)
        self.paper.check("every other call was answered 429", passed == LIMIT - 1 and {a.status for a in answers} == {200, 429}, passed)
        response = self.ask(body=True)
        problem = problem_of(response)
        self.paper.check("the next one is 429, as application/problem+json with Retry-After", response.status == 429 and problem.get("reason") == "QuotaExhausted"
                         and response.headers.get("retry-after", "").isdigit(), response.status)
        numbers = {key: problem.get(key) for key in ("tenant", "limit", "used", "remaining")}
        self.paper.check("and says whose quota it is, how much of it is used, and when it is whole again",
                         numbers == {"tenant": f"{SHOP}/acme", "limit": LIMIT, "used": LIMIT, "remaining": 0} and "resetAt" in problem, numbers)
        response = self.ask(key="demo-key-globex", headers=False)
        self.paper.check("Globex, on the same pods, has its own quota → 200", response.status == 200, response.status)

    def past_the_sidecar(self):
        pod = self.cluster.wait_ready(SHOP, "app=api")[0]
        address = f"{pod['status']['podIP']}:8080"
        self.paper.step("There is no way around it", "From inside the cluster, past the Service: straight to the app's own port at its pod's address.")
        self.paper.command(curl(address, CALL, {"X-Api-Key": KEY}))
        response = shop.ask(address)
        self.paper.answer(response, headers=False)
        self.paper.check("refused as well: the pod's network sends it to the sidecar", response.status == 429, response.status)

    def what_people_see(self):
        self.paper.step("What people see", "Usage is in the tenant's status, and Events tell what happened, in the tools that they have already.")
        tenant = self.cluster.wait_for(shop.path_of("billingtenants", "acme"), lambda item: shop.used(item) >= LIMIT, STATUS_TIMEOUT_S,
                                       "Acme's usage is in its status")
        self.kubectl("get", "btenant", "-A")
        self.paper.check(f"Acme's status says {LIMIT} of {LIMIT}", shop.used(tenant) == LIMIT, shop.used(tenant))
        self.event("acme", "LimitReached")
        self.kubectl("explain", "btenant.spec.limitOverrides.amount")
        for words in (("status",), ("usage", f"{SHOP}/acme")):
            self.paper.command("kubectl tallygate " + " ".join(words))
            text = self.machine.kubectl_tallygate(*words)
            self.paper.output(text)
            if words == ("status",):
                self.paper.note("Vandelay, of examples/gates.yaml, pays in advance and has not paid yet: that is what is wrong with it.")
        self.paper.check("kubectl tallygate usage says so too", f"{LIMIT}" in text.split("calls-month", 1)[-1].split("\n")[0], text)

    def event(self, tenant, reason):
        """Waits for an Event of a tenant and shows it: → its message, "" where none came."""
        selector = f"involvedObject.name={tenant},reason={reason}"
        query = f"/api/v1/namespaces/{SHOP}/events?fieldSelector={selector.replace('=', '%3D').replace(',', '%2C')}"
        try:
            found = wait_until(lambda: self.cluster.get(query)["items"], STATUS_TIMEOUT_S, f"an Event {reason}")
        except TimeoutError:
            found = [{"message": "", "note": ""}]
        self.kubectl("-n", SHOP, "get", "events", "--field-selector", selector)
        message = found[-1].get("message") or found[-1].get("note") or ""
        self.paper.check(f"an Event {reason} tells it", message != "")
        return message

    def what_machines_see(self):
        self.paper.step("What machines see", "Prometheus scrapes the operators and every sidecar, by the ports that their pods name.")
        prometheus = self.machine.prometheus
        self.machine.find_targets()
        queries = {"targets that answer": ("sum(up)", 4), "calls that the sidecars let through": (
            'sum(tallygate_sidecar_decisions_total{reason="Admitted"})', sum(self.admitted.values())),
            "units in the ledger": ('sum(tallygate_operator_booked_units_total{meter="api_calls"})', sum(self.admitted.values()))}
        for told, (query, wanted) in queries.items():
            self.paper.command(f"curl -s 'http://{self.machine.outside['prometheus']}/api/v1/query' --data-urlencode 'query={query}'")
            try:
                value = wait_until(lambda query=query, wanted=wanted: prometheus.value(query) == wanted and wanted, 30, query)
            except TimeoutError:
                value = prometheus.value(query)
            self.paper.output(f"{value:g}" if value is not None else "no sample")
            self.paper.check(f"{told}: {wanted}", value == wanted, value)

    def mistakes(self):
        self.paper.step("A mistake is refused, and says how to mend it",
                        "A tenant that names a plan that there is not: what was in force before stays in force.")
        good = self.kubectl("-n", SHOP, "get", "btenant", "globex", "-o", "jsonpath={.spec.planRef.name}", show=False)
        self.paper.command("kubectl -n shop patch btenant globex --type=merge -p '{\"spec\": {\"planRef\": {\"name\": \"gold-v1\"}}}'")
        self.patch_plan("gold-v1")
        message = self.event("globex", "Refused")
        self.paper.check("it names the field and the plan that is missing", "planRef" in message and "gold-v1" in message, message)
        response = self.ask(key="demo-key-globex", show=False)
        self.paper.check("Globex is served as before", response.status == 200, response.status)
        self.patch_plan(good)
        shop.wait_in_force(self.cluster, "billingtenants", "globex")
        self.paper.note("And a pod that could not be metered: with the node's own network a sidecar would stand before the whole node.")
        said = self.host_network_pod()
        self.paper.check("it is not made, and told why and what to do", "hostNetwork" in said and "denied" in said, said)

    def patch_plan(self, name):
        self.kubectl("-n", SHOP, "patch", "btenant", "globex", "--type=merge", "-p", json.dumps({"spec": {"planRef": {"name": name}}}), show=False)

    def host_network_pod(self):
        image = f"--image={shop.REPOSITORY}/app:{shop.TAG}"
        labels = "--labels=app=api,billing.tallygate.dev/inject=enabled"
        self.paper.command(f"kubectl -n {SHOP} run gateway {image} {labels} --overrides='{HOST_NETWORK}'")
        said = self.kubectl("-n", SHOP, "run", "gateway", image, labels, f"--overrides={HOST_NETWORK}", show=False, check=False)
        self.paper.output(said)
        return said

    def a_rolling_restart(self):
        self.paper.step("Pods come and go, the quota stays", "All pods of the app are replaced while calls go on: a new pod starts with an empty hand,",
                        "and asks for its share of what is left. Here nothing is left.")
        self.kubectl("-n", SHOP, "rollout", "restart", "deployment/api")
        statuses, lost = {}, 0
        with self.paper.doing("until the new pods have taken over"), concurrent.futures.ThreadPoolExecutor(1) as pool:
            rollout = pool.submit(self.cluster.kubectl, "-n", SHOP, "rollout", "status", "deployment/api", "--timeout=120s", timeout_s=150)
            while not rollout.done():
                try:
                    status = shop.ask(self.service).status
                    statuses[status] = statuses.get(status, 0) + 1
                except OSError:
                    lost += 1
                time.sleep(0.02)
            rollout.result()
        self.paper.note(f"answers: {statuses}, without one: {lost}")
        self.paper.check("every call was answered, each with 429", lost == 0 and set(statuses) == {429}, f"{statuses}, without an answer {lost}")

    def the_bill(self):
        self.paper.step("What Stripe has", "Usage goes from each pod's log on disk through Redis into PostgreSQL, is summed up by the minute, and sent as meter",
                        "events. Here Stripe is an emulator of it beside the node, which the operator reaches as it would the real one, over TLS.")
        with self.paper.doing("until the minute is over, booked and sent"):
            billed = self.billed(BILLED_TIMEOUT_S)
        self.paper.command(f"curl -su {TEST_KEY}: 'http://{self.machine.outside['stripe']}/v1/billing/meters/{self.meters['api_calls']['id']}/event_summaries"
                           f"?customer={self.customers['acme']}&start_time={self.began}&end_time={int(time.time()) // 60 * 60 + 60}'")
        self.paper.table(("api_calls", "let through", "Stripe"), [(name, count, billed[name]) for name, count in self.admitted.items()])
        for name, count in self.admitted.items():
            self.paper.check(f"{name}: Stripe bills {count}, not one more or less", billed[name] == count, billed[name])

    def billed(self, timeout_s):
        deadline = time.monotonic() + timeout_s
        api = self.machine.stripe.client()
        try:
            while True:
                until = int(time.time()) // 60 * 60 + 60
                billed = {name: int(api.summed(self.meters["api_calls"]["id"], self.customers[name], self.began, until)) for name in self.admitted}
                if all(billed[name] >= count for name, count in self.admitted.items()) or time.monotonic() > deadline:
                    return billed
                time.sleep(0.5)
        finally:
            api.close()
