#!/usr/bin/env python3
"""Runs the end-to-end tests, each with a stack of its own, and closes with one summary.

    python3 tests/run_e2e.py                 all of them
    python3 tests/run_e2e.py outages demo    modules whose name contains one of these words
    python3 tests/run_e2e.py -k kill_9       tests whose name contains that word

TALLYGATE_BIN says where the binaries are (default build/release/bin); TALLYGATE_KEEP=1 keeps every test's folder.
"""

import argparse
import os
import pathlib
import sys
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.support.process import ProcessError
from tests.support.stack import binary


class Result(unittest.TextTestResult):
    """Names each test as it begins, with its time at the end."""

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.stream.writeln(f"    ({time.monotonic() - self._began:.1f} s)")
        super().stopTest(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="words in module names")
    parser.add_argument("-k", dest="pattern", action="append", help="words in test names")
    args = parser.parse_args()
    try:
        for name in ("tallygate-operator", "tallygate-sidecar"):
            binary(name)
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 2
    os.chdir(ROOT)
    loader = unittest.TestLoader()
    if args.pattern:
        loader.testNamePatterns = [f"*{word}*" for word in args.pattern]
    suite = unittest.TestSuite()
    for path in sorted((ROOT / "tests" / "e2e").glob("test_*.py")):
        if not args.modules or any(word in path.stem for word in args.modules):
            suite.addTests(loader.loadTestsFromName(f"tests.e2e.{path.stem}"))
    if suite.countTestCases() == 0:
        print("no test has such a name", file=sys.stderr)
        return 2
    began = time.monotonic()
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(suite)
    failed = len(result.failures) + len(result.errors)
    parts = [test for test, _ in result.failures + result.errors + result.skipped]  # of a test with subtests there may be many
    passed = result.testsRun - len({getattr(test, "test_case", test).id() for test in parts})
    print(f"end to end: {result.testsRun} run, {passed} passed, {failed} failed, "
          f"{len(result.skipped)} skipped, {time.monotonic() - began:.0f} s", file=sys.stderr)
    return 1 if failed or not result.wasSuccessful() else 0


if __name__ == "__main__":
    sys.exit(main())
