"""The root folder of an image, made of a program as it was built here, and a process in it as a pod has it: that root, read-only, a few
folders mounted, another user. As root only."""

import os
import pathlib
import subprocess

from tests.support.kube import ROOT
from tests.support.stack import binary
from tests.support.tools import skip_loudly

USER = 65532
ENTER = """\
#!/bin/sh
exec unshare --mount sh -ec '
root={root}
mount --bind $root $root
for each in /proc /dev; do mount --rbind $each $root$each; done
{mounts}
mount -o remount,bind,ro $root
exec chroot --userspec={user}:{user} $root /usr/local/bin/{program} "$@"' {program} "$@"
"""


class ImageRoot:
    def __init__(self, name, folder):
        """`name`: operator or sidecar; below `folder`, which everybody may enter."""
        self.program = f"tallygate-{name}"
        stripped = folder / self.program
        subprocess.run(["strip", "-o", stripped, binary(self.program)], check=True)
        self.path = folder / f"root-{name}"
        subprocess.run([ROOT / "scripts" / "image_root.sh", stripped, self.path], check=True, env={**os.environ, "TALLYGATE_VERSION": "0.1.0"})
        stripped.unlink()

    def entrance(self, script, mounts):
        """Writes a script that becomes the program inside. `mounts`: folder outside → path inside."""
        lines = []
        for inside in ("/proc", "/dev", *mounts.values()):
            pathlib.Path(f"{self.path}{inside}").mkdir(parents=True, exist_ok=True)
        for outside, inside in mounts.items():
            lines.append(f"mount --bind {outside} $root{inside}")
        script.write_text(ENTER.format(root=self.path, mounts="\n".join(lines), user=USER, program=self.program))
        script.chmod(0o755)
        return script


def needs_root():
    if os.geteuid() != 0:
        skip_loudly("another root folder and another user can be had as root only")
