"""Both real binaries are built as cmake/hardening.cmake says: told by readelf."""

import pathlib
import re
import shutil
import subprocess
import unittest

from tests.support.stack import binary


def read(path, *what):
    return subprocess.run(["readelf", "-W", *what, path], check=True, capture_output=True, text=True).stdout


def is_optimised(path):
    """Whether it is what would be shipped; a build without optimisation has no fortified calls, and foreign assertions."""
    cache = pathlib.Path(path).resolve().parents[1] / "CMakeCache.txt"
    return not cache.exists() or "CMAKE_BUILD_TYPE:STRING=Debug" not in cache.read_text()


@unittest.skipUnless(shutil.which("readelf"), "readelf is not here (binutils): nothing was checked")
class Hardening(unittest.TestCase):
    def check(self, path, **facts):
        self.assertEqual([name for name, holds in facts.items() if not holds], [], f"{path} is built without these")

    def test_programs_are_hardened(self):
        for name in ("tallygate-operator", "tallygate-sidecar"):
            with self.subTest(name):
                path = str(binary(name))
                dynamic, segments, imports = read(path, "-d"), read(path, "-l"), read(path, "--dyn-syms")
                self.check(path, pie=re.search(r"FLAGS_1.*\bPIE\b", dynamic), bind_now=re.search(r"BIND_NOW|FLAGS_1.*\bNOW\b", dynamic),
                           relro="GNU_RELRO" in segments, no_text_relocations="TEXTREL" not in dynamic,
                           no_search_path=not re.search("RPATH|RUNPATH", dynamic), no_executable_stack=re.search(r"GNU_STACK.* RW ", segments),
                           no_writable_code=" RWE " not in segments, stack_protector="__stack_chk_fail" in imports,
                           library_assertions="__glibcxx_assert_fail" in imports)

    def test_what_is_shipped_has_checked_copies_and_no_foreign_assertions(self):
        for name in ("tallygate-operator", "tallygate-sidecar"):
            path = str(binary(name))
            if not is_optimised(path):
                self.skipTest("built without optimisation: checked copies and foreign assertions are not looked at")
            with self.subTest(name):
                imports = read(path, "--dyn-syms")
                self.check(path, fortify=re.search(r"__(mem|str|v?s?n?printf|read|recv)\w*_chk", imports),
                           no_foreign_assertions="__assert_fail" not in imports)


if __name__ == "__main__":
    unittest.main()
