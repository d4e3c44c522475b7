"""The whole product on a real node, as a platform team meets it: the chart with its bundled Redis and PostgreSQL, `kubectl apply -f examples/`,
an app that knows nothing of it under a label, traffic through its Service, 429 at the exact unit, and `kubectl get btenant` shows it."""

import concurrent.futures
import pathlib
import tempfile
import unittest

from tests.support import shop
from tests.support.helm import NAMESPACE
from tests.support.node import NodeCluster
from tests.support.shop import LIMIT, SHOP, ask, reason


class Story(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tallygate-story-")
        self.addCleanup(folder.cleanup)
        self.cluster = NodeCluster(archives=shop.make_images(pathlib.Path(folder.name)))
        self.addCleanup(self.cluster.remove)
        self.cluster.start()

    def test_from_the_chart_to_the_exact_unit(self):
        cluster = self.cluster
        cluster.apply(shop.EXAMPLES / "00-namespace.yaml")
        shop.install(cluster)
        cluster.wait_ready(NAMESPACE, shop.OPERATOR, timeout_s=180)
        cluster.apply(shop.EXAMPLES)
        shop.wait_in_force(cluster, "billingtenants", "acme")
        cluster.apply(shop.APP)
        pods = cluster.wait_ready(SHOP, "app=api", count=2, timeout_s=120)
        self.assertTrue(all(shop.has_sidecar(pod) for pod in pods))
        address = shop.service(cluster)

        self.assertEqual(ask(address, key=None).status, 401)
        self.assertEqual(ask(address, "/healthz", key=None).status, 200)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(address), range(LIMIT + 30)))
        self.assertEqual(sum(answer.status == 200 for answer in answers), LIMIT, answers)
        self.assertEqual({reason(answer) for answer in answers if answer.status != 200}, {"QuotaExhausted"})
        self.assertEqual(shop.app_saw(cluster), LIMIT)
        # What went past the sidecar's port, to the pod's own, was captured too.
        self.assertEqual(ask(pods[0]["status"]["podIP"] + ":8080").status, 429)

        cluster.wait_for(shop.path_of("billingtenants", "acme"), lambda tenant: shop.used(tenant) == LIMIT, 120, "the tenant's status shows what was used")
        print(cluster.kubectl("get", "btenant,bplan,bpolicy", "-A"))
        # A rollout restart under the same Service: nothing more is admitted.
        cluster.kubectl("-n", SHOP, "rollout", "restart", "deployment/api")
        cluster.kubectl("-n", SHOP, "rollout", "status", "deployment/api", "--timeout=120s", timeout_s=150)
        self.assertEqual({ask(address).status for _ in range(10)}, {429})


if __name__ == "__main__":
    unittest.main()
