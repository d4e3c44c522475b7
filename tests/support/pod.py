"""A pod's container run on this machine, without a node: the image's root folder, the arguments, variables and volumes of the pod's spec as
the API server has it, Secrets read from there, a token of its ServiceAccount. What kubelet would do, as far as a test of a chart needs
it; the network is this machine's. As root only."""

import base64
import os
import pathlib

from tests.support.image import USER
from tests.support.process import Process, ProcessError

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"


class RunningPod:
    def __init__(self, kube, image, name, spec, namespace, folder, env=None):
        """`spec`: a pod's with one container. `image`: an ImageRoot. `env`: variables on top."""
        self.name = name
        self._kube, self._namespace = kube, namespace
        self._folder = pathlib.Path(folder) / name
        self._folder.mkdir(parents=True)
        self._folder.chmod(0o755)
        container = spec["containers"][0]
        mounts = {self._volume(spec, mount["name"]): mount["mountPath"] for mount in container.get("volumeMounts", [])}
        variables = {each["name"]: each.get("value") or self._field(each) for each in container.get("env", [])}
        if spec.get("automountServiceAccountToken", True):
            mounts[self._token(spec["serviceAccountName"])] = ACCOUNT
            variables.update(KUBERNETES_SERVICE_HOST="127.0.0.1", KUBERNETES_SERVICE_PORT=str(kube.port))
        entrance = image.entrance(self._folder / "enter", mounts)
        self.process = Process(name, [entrance, *container["args"]], self._folder, env={**variables, **(env or {})})

    def start(self):
        self.process.spawn()
        return self

    def _field(self, variable):
        path = variable["valueFrom"]["fieldRef"]["fieldPath"]
        return {"metadata.name": self.name, "metadata.namespace": self._namespace}[path]

    def _write(self, folder, name, content):
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(content)
        path.chmod(0o440)
        os.chown(path, 0, USER)  # fsGroup

    def _volume(self, spec, name):
        volume = next(each for each in spec["volumes"] if each["name"] == name)
        folder = self._folder / "volumes" / name
        folder.mkdir(parents=True)
        if "emptyDir" in volume:
            folder.chmod(0o2770)
            os.chown(folder, 0, USER)
            return folder
        sources = [source["secret"] for source in volume["projected"]["sources"]] if "projected" in volume else [volume["secret"]]
        for source in sources:
            secret = source.get("secretName") or source["name"]
            data = (self._kube.get(f"/api/v1/namespaces/{self._namespace}/secrets/{secret}") or {}).get("data")
            if data is None:
                raise ProcessError(f"{self.name}: there is no Secret {secret}: kubelet would wait for it")
            for item in source.get("items") or [{"key": key, "path": key} for key in data]:
                self._write(folder, item["path"], base64.b64decode(data[item["key"]]))
        return folder

    def _token(self, account):
        status, answer = self._kube.request("POST", f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token",
                                            {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}})
        if status != 201:
            raise ProcessError(f"token of {account}: {status}: {answer}")
        folder = self._folder / "account"
        self._write(folder, "token", answer["status"]["token"].encode())
        self._write(folder, "ca.crt", pathlib.Path(self._kube.ca_file).read_bytes())
        self._write(folder, "namespace", self._namespace.encode())
        return folder
