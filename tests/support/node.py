"""A real single-node cluster that runs pods: the control plane of kube.py, containerd, kubelet, kube-proxy and CoreDNS, all inside one
private network namespace that is joined to nothing outside, with IPv4 and IPv6. Needs root.

    with NodeCluster(images=["redis.tar"]) as cluster:
        cluster.kubectl("apply", "-f", "-", stdin=text)
        cluster.wait_ready("shop", "app=web")

The calling process itself enters the namespace (so do its children and later threads), so that 127.0.0.1, pods and Services are reached as
from the node; remove() brings it back. One cluster in a process at a time; several processes may have one each.
"""

import ctypes
import glob
import os
import pathlib
import shutil
import socket
import subprocess
import threading
import time

from tests.support import images
from tests.support.kube import SCRIPT, ControlPlane, tool
from tests.support.process import Process, ProcessError, wait_until
from tests.support.tools import skip_loudly

NODE = "node1"
NODE_IP, NODE_IP6 = "192.168.77.2", "fd77::2"
SERVICES, SERVICES6 = "10.96.0.0/16", "fd00:96::/112"
PODS, PODS6 = "10.244.0.0/24", "fd00:244::/64"
DNS_IP = "10.96.0.10"
PAUSE = "local/pause:3.10"
NEEDED = {"containerd": "containerd", "runc": "runc", "ip": "iproute2", "iptables": "iptables", "conntrack": "conntrack", "ctr": "containerd",
          "nft": "nftables", "mount": "mount"}
CLONE_NEWNET = 0x40000000
SYSCTLS = ("vm.overcommit_memory", "kernel.panic", "kernel.panic_on_oops")  # kubelet changes them, for the whole machine
CONTAINERD = """
version = 2
root = "{folder}/containerd/root"
state = "{state}"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs","io.containerd.snapshotter.v1.zfs","io.containerd.snapshotter.v1.devmapper","io.containerd.snapshotter.v1.aufs"]
[grpc]
  address = "{state}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""
CNI = """{{"cniVersion":"0.4.0","name":"br","plugins":[
 {{"type":"bridge","bridge":"cni0","isGateway":true,"ipMasq":false,"hairpinMode":true,"promiscMode":false,
  "ipam":{{"type":"host-local","dataDir":"{folder}/cni/ipam","ranges":[[{{"subnet":"{pods}"}}],[{{"subnet":"{pods6}"}}]],
           "routes":[{{"dst":"0.0.0.0/0"}},{{"dst":"::/0"}}]}}}},
 {{"type":"portmap","capabilities":{{"portMappings":true}}}}]}}
"""
KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
port: 10250
healthzBindAddress: 127.0.0.1
readOnlyPort: 0
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {pki}/ca.crt}}}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/kubelet.crt
tlsPrivateKeyFile: {pki}/kubelet.key
cgroupDriver: cgroupfs
cgroupsPerQOS: true
cgroupRoot: /{cgroup}
enforceNodeAllocatable: [pods]
containerRuntimeEndpoint: unix://{state}/containerd.sock
podLogsDir: {folder}/podlogs
volumePluginDir: {folder}/volplug
failSwapOn: false
clusterDomain: cluster.local
clusterDNS: [{dns}]
resolvConf: {folder}/resolv.conf
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
maxPods: 200
nodeStatusUpdateFrequency: 5s
syncFrequency: 10s
registerNode: true
failCgroupV1: false
"""
PROXY = """
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {{kubeconfig: {kubeconfig}}}
clusterCIDR: {pods},{pods6}
hostnameOverride: {node}
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"""
COREFILE = """
.:53 {{
  bind {dns}
  errors
  kubernetes cluster.local in-addr.arpa ip6.arpa {{
    kubeconfig {kubeconfig} t
    pods insecure
    ttl 5
  }}
  cache 5
}}
"""


def _run(*command, check=True):
    done = subprocess.run([str(part) for part in command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise ProcessError(f"{' '.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _enter(descriptor):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise ProcessError(f"setns: {os.strerror(ctypes.get_errno())}")


def node_binary(name):
    """The path of kubelet or kube-proxy, built where it is missing. Skips the calling test where it cannot be had."""
    built = subprocess.run([SCRIPT, "node"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if built.returncode:
        skip_loudly(f"no Kubernetes node: {built.stderr.strip().splitlines()[-1]}")
    return str(pathlib.Path(subprocess.run([SCRIPT, "path", "node"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()) / name)


def missing():
    """What keeps this machine from running a node, in sentences; nothing where it can."""
    found = []
    if os.geteuid() != 0:
        found.append("it needs root: it makes a network namespace, mounts and containers")
    for command, package in NEEDED.items():
        if shutil.which(command) is None:
            found.append(f"{command} is missing (Debian package {package})")
    if not os.path.isdir("/usr/lib/cni"):
        found.append("/usr/lib/cni is missing (Debian package containernetworking-plugins)")
    return found


def require_node():
    """Skips the calling test where this machine cannot run a node."""
    found = missing()
    if found:
        skip_loudly(f"no Kubernetes node: {'; '.join(found)}")


class NodeCluster(ControlPlane):
    def __init__(self, folder=None, archives=()):
        require_node()
        super().__init__(folder, controllers=True)
        self.name = f"tgn{os.getpid()}"
        self._archives = [pathlib.Path(path) for path in archives]
        # Socket paths are short, and mounts of containers must not lie under what a test removes.
        self._state = pathlib.Path(f"/run/{self.name}")
        self._home = None
        self._sysctls = {}
        self.containerd = self.kubelet = self.proxy = self.dns = None
        pki = self._pki
        self._options += ["--bind-address=0.0.0.0", f"--advertise-address={NODE_IP}", "--endpoint-reconciler-type=lease",
                          f"--service-cluster-ip-range={SERVICES},{SERVICES6}", f"--kubelet-client-certificate={pki}/admin.crt",
                          f"--kubelet-client-key={pki}/admin.key", f"--kubelet-certificate-authority={pki}/ca.crt",
                          "--kubelet-preferred-address-types=InternalIP"]

    # ---- life

    def start(self):
        node_binary("kubelet")  # built before anything is started
        try:
            self._make_network()
            super().start()
            self._start_containerd()
            self._start_kubelet()
            self._start_proxy()
            self._start_dns()
            self.wait_for(f"/api/v1/nodes/{NODE}", lambda node: node is not None and _is_ready(node), 90, "the node is ready")
        except BaseException:
            self.remove()
            raise
        return self

    def _make_network(self):
        for key in SYSCTLS:
            self._sysctls[key] = _run("sysctl", "-n", key).strip()
        _run("ip", "netns", "add", self.name)
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(inside)
        finally:
            os.close(inside)
        for command in ("link set lo up", "link add node0 type bridge", f"addr add {NODE_IP}/24 dev node0", f"-6 addr add {NODE_IP6}/64 dev node0 nodad",
                        "link set node0 up", "route add default dev node0", "-6 route add default dev node0", f"addr add {DNS_IP}/32 dev node0"):
            _run("ip", *command.split())
        for key in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.route_localnet", "net.bridge.bridge-nf-call-iptables"):
            _run("sysctl", "-qw", f"{key}=1", check=False)

    def listen_outside(self, port=0):
        """A socket that listens on the machine's own 127.0.0.1: what it accepts comes from outside of the node's network."""
        made = []

        def make():  # on a thread that ends: only it leaves the node's network
            try:
                _enter(self._home)
                made.append(socket.create_server(("127.0.0.1", port)))
            except (OSError, ProcessError) as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if isinstance(made[0], Exception):
            raise ProcessError(f"127.0.0.1:{port}: {made[0]}")
        return made[0]

    def _fill(self, template, **more):
        return template.format(folder=self.folder, state=self._state, pki=self._pki, pause=f"docker.io/{PAUSE}", pods=PODS, pods6=PODS6, dns=DNS_IP,
                               node=NODE, cgroup=self.name, kubeconfig=self.kubeconfig, **more)

    def _start_containerd(self):
        (self.folder / "cni").mkdir(exist_ok=True)
        self._state.mkdir(exist_ok=True)
        (self.folder / "cni" / "10-bridge.conflist").write_text(self._fill(CNI))
        (self.folder / "containerd.toml").write_text(self._fill(CONTAINERD))
        self.containerd = Process("containerd", ["containerd", "--config", self.folder / "containerd.toml"], self.folder).spawn()
        self.containerd.wait_ready(lambda: self.ctr("version", check=False).strip() != "", 30, "answers")
        self.load(images.pause_image(self.folder, PAUSE))
        for archive in self._archives:
            self.load(archive)

    def ctr(self, *args, check=True):
        return _run("ctr", "-a", self._state / "containerd.sock", "-n", "k8s.io", *args, check=check)

    def load(self, archive):
        """Brings an image archive onto the node."""
        self.ctr("images", "import", archive)

    def _start_kubelet(self):
        self.sign("kubelet", f"/O=system:nodes/CN=system:node:{NODE}",
                  f"subjectAltName=IP:{NODE_IP},IP:{NODE_IP6},DNS:{NODE}\nextendedKeyUsage=serverAuth,clientAuth")
        self._write_kubeconfig(self.folder / "kubelet.conf", "kubelet")
        (self.folder / "resolv.conf").write_text("")
        (self.folder / "kubelet.yaml").write_text(self._fill(KUBELET))
        for controller in glob.glob("/sys/fs/cgroup/*/cgroup.procs"):
            (pathlib.Path(controller).parent / self.name).mkdir(exist_ok=True)
        self.kubelet = Process("kubelet", [node_binary("kubelet"), f"--config={self.folder}/kubelet.yaml", f"--kubeconfig={self.folder}/kubelet.conf",
                                           f"--hostname-override={NODE}", f"--node-ip={NODE_IP},{NODE_IP6}", f"--root-dir={self.folder}/kubelet",
                                           f"--cert-dir={self.folder}/kubelet-pki"], self.folder).spawn()

    def _start_proxy(self):
        (self.folder / "proxy.yaml").write_text(self._fill(PROXY))
        self.proxy = Process("kube-proxy", [node_binary("kube-proxy"), f"--config={self.folder}/proxy.yaml"], self.folder).spawn()

    def _start_dns(self):
        (self.folder / "Corefile").write_text(self._fill(COREFILE))
        self.dns = Process("coredns", [tool("coredns"), "-conf", self.folder / "Corefile"], self.folder).spawn()

    def stop(self):
        self._stop_node()
        super().stop()

    def _stop_node(self):
        for process in (self.kubelet, self.proxy, self.dns):
            if process is not None and process.alive:
                process.kill9()
        if self.containerd is None or not self.containerd.alive:
            return
        tasks = self.ctr("tasks", "ls", "-q", check=False).split()
        for task in tasks:
            self.ctr("tasks", "kill", "-s", "KILL", task, check=False)
        deadline = time.monotonic() + 5
        while tasks and time.monotonic() < deadline and "RUNNING" in self.ctr("tasks", "ls", check=False):
            time.sleep(0.1)
        for container in self.ctr("containers", "ls", "-q", check=False).split():
            self.ctr("tasks", "delete", "-f", container, check=False)
            self.ctr("containers", "delete", container, check=False)
        self.containerd.kill9()

    def remove(self):
        self.stop()
        if self._home is not None:
            _enter(self._home)
            os.close(self._home)
            self._home = None
        places = [line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((p for p in places if p.startswith((f"{self.folder}/", f"{self._state}/"))), reverse=True):
            _run("umount", "-l", place, check=False)
        _run("ip", "netns", "del", self.name, check=False)
        for folder in sorted(glob.glob(f"/sys/fs/cgroup/*/{self.name}/**/", recursive=True), key=len, reverse=True):
            try:
                os.rmdir(folder)
            except OSError:
                pass  # a dying process: the kernel removes nothing that is in use
        for key, value in self._sysctls.items():
            _run("sysctl", "-qw", f"{key}={value}", check=False)
        for link in glob.glob("/var/log/containers/*"):
            if os.path.islink(link) and os.readlink(link).startswith(str(self.folder)):
                os.unlink(link)
        shutil.rmtree(self._state, ignore_errors=True)
        super().remove()

    # ---- pods

    def pods(self, name_space, selector=""):
        query = f"?labelSelector={selector.replace('=', '%3D')}" if selector else ""
        return self.get(f"/api/v1/namespaces/{name_space}/pods{query}")["items"]

    def wait_ready(self, name_space, selector, count=1, timeout_s=60):
        """Until that many of the pods are ready: → them. The error tells what keeps them."""
        def ready():
            found = [pod for pod in self.pods(name_space, selector) if _is_ready(pod) and not pod["metadata"].get("deletionTimestamp")]
            return found if len(found) >= count else None
        try:
            return wait_until(ready, timeout_s, f"{count} pods of {selector} are ready")
        except TimeoutError as late:
            raise ProcessError(f"{late}\n{self.why(name_space, selector)}") from None

    def why(self, name_space, selector):
        """What a person would look at: states, events, the end of each container's log."""
        text = self.kubectl("-n", name_space, "describe", "pods", "-l", selector, check=False)[1]
        text += self.kubectl("-n", name_space, "logs", "-l", selector, "--all-containers", "--prefix", "--tail=20", check=False)[1]
        return text[-12000:]


def _is_ready(item):
    return any(c["type"] == "Ready" and c["status"] == "True" for c in item.get("status", {}).get("conditions", []))
