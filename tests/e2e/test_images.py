"""The images: what is in them, that they run as they will in a pod (read-only root, another user, no shell), and the Dockerfile itself."""

import json
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest

from tests.e2e.base import StackTest, say
from tests.support.image import USER, ImageRoot, needs_root
from tests.support.kube import ROOT
from tests.support.stack import binary
from tests.support.tools import skip_loudly

NAMES = ("operator", "sidecar")
MIB_MAX = {"operator": 60, "sidecar": 25}


class Roots(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-images-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.roots = {name: ImageRoot(name, cls.folder).path for name in NAMES}

    def files(self, root):
        return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]

    def test_small_and_without_a_shell(self):
        for name, root in self.roots.items():
            with self.subTest(name):
                mib = sum(path.stat().st_size for path in self.files(root)) / 2**20
                say(f"{name}: {mib:.1f} MiB")
                self.assertLess(mib, MIB_MAX[name])
                programs = [path for path in self.files(root) if path.stat().st_mode & stat.S_IXUSR and ".so" not in path.name]
                self.assertEqual([path.name for path in programs], [f"tallygate-{name}"])

    def test_nothing_is_privileged_or_writable_but_tmp(self):
        for root in self.roots.values():
            for path in root.rglob("*"):
                mode = path.lstat().st_mode
                if not stat.S_ISLNK(mode) and path != root / "tmp":
                    self.assertFalse(mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH), path)

    def test_bill_of_materials(self):
        for name, root in self.roots.items():
            with self.subTest(name):
                document = json.loads((root / "usr/share/tallygate/sbom.spdx.json").read_text())
                ids = [package["SPDXID"] for package in document["packages"]]
                self.assertEqual(len(ids), len(set(ids)))
                for each in ids:
                    self.assertRegex(each, r"^SPDXRef-[A-Za-z0-9.-]+$")
                self.assertEqual({r["relatedSpdxElement"] for r in document["relationships"]}, set(ids))
                packages = {package["name"] for package in document["packages"]} - {f"tallygate-{name}"}
                self.assertEqual(packages, {path.name for path in (root / "var/lib/dpkg/status.d").iterdir()})
                for package in packages:
                    self.assertTrue((root / "usr/share/doc" / package / "copyright").exists(), package)
                for library in root.rglob("*.so*"):
                    owner = subprocess.run(["dpkg", "-S", os.path.realpath("/" + str(library.relative_to(root)))], capture_output=True, text=True)
                    if owner.returncode == 0:  # under its name from before the merge of /usr otherwise
                        self.assertIn(owner.stdout.partition(":")[0], packages)

    def test_they_start_without_anything_else(self):
        needs_root()
        for name, root in self.roots.items():
            done = subprocess.run(["chroot", f"--userspec={USER}:{USER}", root, f"/usr/local/bin/tallygate-{name}", "--version"], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout.strip()), (0, f"tallygate-{name} 0.1.0"), done.stderr)


class InTheirRoots(StackTest):
    def setUp(self):
        needs_root()
        super().setUp()
        work = pathlib.Path(tempfile.mkdtemp(prefix="tallygate-images-"))
        self.addCleanup(shutil.rmtree, work, ignore_errors=True)
        work.chmod(0o755)
        programs = work / "bin"
        programs.mkdir()
        for name in NAMES:
            ImageRoot(name, work).entrance(programs / f"tallygate-{name}", {self.stack.folder: self.stack.folder})
        before = os.environ.get("TALLYGATE_BIN")
        os.environ["TALLYGATE_BIN"] = str(programs)
        self.addCleanup(lambda: os.environ.update(TALLYGATE_BIN=before) if before else os.environ.pop("TALLYGATE_BIN"))

    def test_a_request_is_charged_and_billed(self):
        """Redis, PostgreSQL, Stripe (HTTP), a tenant's time zone, the usage log: all that the programs need of a system."""
        self.set_tenant("acme", 3)
        text = self.manifest_text().replace("interval: Month,", "interval: Month, timeZone: America/Sao_Paulo,")
        self.assertIn("Sao_Paulo", text)
        self.stack.write_manifests(text)
        self.stack.manifests.chmod(0o755)
        data = self.stack.folder / "sidecar-a" / "data"
        data.mkdir(parents=True)
        data.chmod(0o700)
        os.chown(data, USER, USER)
        self.stack.start_operator()
        sidecar = self.stack.start_sidecar("a", "shop/api")
        self.assertIn(f"Uid:\t{USER}\t{USER}", pathlib.Path(f"/proc/{sidecar.process.pid}/status").read_text())
        self.assertEqual([self.ask(sidecar, "acme").status for _ in range(4)], [200, 200, 200, 429])
        self.assertEqual(self.stack.operator.metric("tallygate_operator_manifest_faults"), 0)
        self.assert_books("acme", 3)


class Dockerfile(unittest.TestCase):
    def test_copies_by_name(self):
        """What lies in the folder beside the sources (keys, logs, another's build) gets into no image."""
        lines = (ROOT / "Dockerfile").read_text().splitlines()
        copied = {name for line in lines if line.startswith("COPY ") and "--from" not in line for name in line.split()[1:-1]}
        let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        self.assertIn("*", (ROOT / ".dockerignore").read_text().splitlines())
        self.assertEqual({name.split("/")[0] for name in copied}, let_in)
        for name in copied - {"prebuilt/"}:
            self.assertTrue((ROOT / name).exists(), name)

    def test_build(self):
        """Both images by the real Dockerfile, the programs taken as they were built here. TALLYGATE_IMAGES=1 runs it: it takes minutes."""
        if not os.environ.get("TALLYGATE_IMAGES"):
            skip_loudly("the images are built with TALLYGATE_IMAGES=1 only")
        needs_root()
        for tool in ("buildah", "debootstrap"):
            if shutil.which(tool) is None:
                skip_loudly(f"there is no {tool}: apt-get install buildah debootstrap")
        with tempfile.TemporaryDirectory(prefix="tallygate-images-") as folder:
            subprocess.run([ROOT / "scripts" / "images.sh", "--debootstrap", "--output", folder, "--binaries", pathlib.Path(binary("tallygate-operator")).parent],
                           check=True)
            subprocess.run("sha256sum --check --quiet SHA256SUMS-*", shell=True, cwd=folder, check=True)
            for name in NAMES:
                path = next(pathlib.Path(folder).glob(f"tallygate-{name}-*.tar"))
                self.assertLess(path.stat().st_size / 2**20, MIB_MAX[name])
                with tarfile.open(path) as archive:
                    manifest = json.load(archive.extractfile("manifest.json"))[0]
                    config = json.load(archive.extractfile(manifest["Config"]))["config"]
                self.assertEqual(config["User"], f"{USER}:{USER}")
                self.assertEqual(config["Entrypoint"], [f"/usr/local/bin/tallygate-{name}"])
                self.assertEqual(config["Cmd"], ["run"])
                json.loads(path.with_suffix(".spdx.json").read_text())


if __name__ == "__main__":
    unittest.main()
