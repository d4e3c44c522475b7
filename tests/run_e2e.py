#!/usr/bin/env python3
"""Runs the end-to-end tests, each with a stack of its own, and closes with one summary.

    python3 tests/run_e2e.py                 all of them, as many modules at once as there are processors
    python3 tests/run_e2e.py outages demo    modules whose name contains one of these words
    python3 tests/run_e2e.py -k kill_9       tests whose name contains that word
    python3 tests/run_e2e.py -j 1            one after the other, each test named as it begins

TALLYGATE_BIN says where the binaries are (default build/release/bin); TALLYGATE_KEEP=1 keeps every test's folder.
"""

import argparse
import concurrent.futures
import os
import pathlib
import re
import subprocess
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


def load(modules, patterns):
    """→ {module: suite}, without those that have no such test."""
    loader = unittest.TestLoader()
    if patterns:
        loader.testNamePatterns = [f"*{word}*" for word in patterns]
    suites = {path.stem: loader.loadTestsFromName(f"tests.e2e.{path.stem}") for path in sorted((ROOT / "tests" / "e2e").glob("test_*.py"))
              if not modules or any(word in path.stem for word in modules)}
    return {name: suite for name, suite in suites.items() if suite.countTestCases()}


def run_here(suites):
    """→ (run, passed, failed, skipped)."""
    result = unittest.TextTestRunner(verbosity=2, resultclass=Result).run(unittest.TestSuite(suites.values()))
    failed = len(result.failures) + len(result.errors)
    parts = [test for test, _ in result.failures + result.errors + result.skipped]  # of a test with subtests there may be many
    passed = result.testsRun - len({getattr(test, "test_case", test).id() for test in parts})
    if not result.wasSuccessful():
        failed = max(failed, 1)
    return result.testsRun, passed, failed, len(result.skipped)


SUMMARY = re.compile(r"^end to end: (\d+) run, (\d+) passed, (\d+) failed, (\d+) skipped.*$", re.M)


def run_apart(name, patterns):
    """A module in a process of its own: its output, shown when it ends. → (run, passed, failed, skipped)."""
    words = [word for pattern in patterns or () for word in ("-k", pattern)]
    done = subprocess.run([sys.executable, __file__, "-j", "1", "--exactly", name, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, check=False)
    found = SUMMARY.search(done.stdout)
    # unittest's own closing words would be taken for those of the whole run.
    text = re.sub(r"^(-{70}|Ran \d+ tests? in .*|OK.*|FAILED \(.*)\n", "", SUMMARY.sub("", done.stdout), flags=re.M).strip()
    print(f"{name}\n{text}\n", file=sys.stderr, flush=True)
    return tuple(int(n) for n in found.groups()) if found else (1, 0, 1, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", help="words in module names")
    parser.add_argument("-k", dest="pattern", action="append", help="words in test names")
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count() or 1, help="modules at once")
    parser.add_argument("--exactly", help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        for name in ("tallygate-operator", "tallygate-sidecar"):
            binary(name)
    except ProcessError as error:
        print(error, file=sys.stderr)
        return 2
    os.chdir(ROOT)
    suites = load(args.modules, args.pattern)
    if args.exactly:
        suites = {args.exactly: suites[args.exactly]}
    if not suites:
        print("no test has such a name", file=sys.stderr)
        return 2
    began = time.monotonic()
    if args.jobs > 1 and len(suites) > 1:
        # Those with most tests first, so that no long one is left alone at the end.
        names = sorted(suites, key=lambda name: -suites[name].countTestCases())
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            counts = list(pool.map(lambda name: run_apart(name, args.pattern), names))
    else:
        counts = [run_here(suites)]
    run, passed, failed, skipped = (sum(column) for column in zip(*counts))
    seconds = time.monotonic() - began
    if len(counts) > 1:
        print(f"Ran {run} tests in {seconds:.0f}s\n\n{'FAILED' if failed else 'OK'} (failures={failed}, skipped={skipped})", file=sys.stderr)
    print(f"end to end: {run} run, {passed} passed, {failed} failed, {skipped} skipped, {seconds:.0f} s", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
