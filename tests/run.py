#!/usr/bin/env python3
"""All tests, in the order of their speed, with one summary at the end. Called by `make test`.

    python3 tests/run.py                 documents, unit, emulator, sanitizer, integration, environments, end to end
    python3 tests/run.py unit e2e        only these stages
    python3 tests/run.py environments    databases, Redis and settings as they are found: barred commands, replicas, no memory,
                                         clients' certificates, too few connections, others' schemas

A test that cannot run here says why and counts as skipped. Exit code 1 if any test failed or a stage could not run.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
STAGES = ("docs", "unit", "emulator", "integration", "environments", "e2e", "sanitizer")
BINARY_SECONDS_MAX = 900


class Totals:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.problems = []
        self.skips = []

    def add(self, passed, failed, skipped):
        self.passed += passed
        self.failed += failed
        self.skipped += skipped


def say(text):
    print(text, flush=True)


def tests_of(preset, label):
    """ctest's own list → [(name, command)]."""
    listing = subprocess.run(["ctest", "--test-dir", str(ROOT / "build" / preset), "-L", f"^{label}$", "--show-only=json-v1"],
                             capture_output=True, text=True, check=True, cwd=ROOT)
    return [(t["name"], t["command"]) for t in json.loads(listing.stdout)["tests"] if "command" in t]


def run_gtest(name, command):
    """→ (name, passed, failed, skipped, seconds, output, reasons of skips)."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tallygate-gtest-") as folder:
        report = pathlib.Path(folder) / "report.json"
        try:
            run = subprocess.run([*command, f"--gtest_output=json:{report}"], cwd=ROOT, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BINARY_SECONDS_MAX)
            code, output = run.returncode, run.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as late:
            code, output = -1, (late.stdout or b"").decode(errors="replace") + f"\nended after {BINARY_SECONDS_MAX} s\n"
        passed = failed = skipped = 0
        skips = []
        if report.exists():
            for suite in json.loads(report.read_text())["testsuites"]:
                for case in suite["testsuite"]:
                    if case.get("failures"):
                        failed += 1
                    elif case["result"] == "SKIPPED":
                        skipped += 1
                        skips.append(f"{suite['name']}.{case['name']}")
                    elif case["status"] == "RUN":
                        passed += 1
        if code != 0 and failed == 0:
            failed += 1  # died, or did not end
    return name, passed, failed, skipped, time.monotonic() - began, output, skips


def gtest_stage(totals, title, preset, label, jobs):
    say(f"== {title}")
    tests = tests_of(preset, label)
    if not tests:
        totals.add(0, 1, 0)
        totals.problems.append(f"{title}: no tests were built")
        return
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run_gtest, *t) for t in tests]):
            name, passed, failed, skipped, seconds, output, skips = done.result()
            totals.add(passed, failed, skipped)
            say(f"   {'ok    ' if failed == 0 else 'FAILED'} {name}: {passed} passed, {failed} failed, {skipped} skipped ({seconds:.1f} s)")
            for skip in skips:
                totals.skips.append(f"{name}: {skip}")
            if failed:
                totals.problems.append(f"{title}: {name}")
                lines = [l for l in output.splitlines() if not re.match(r"\[ +(OK|RUN) +\]|\[-+\]", l)]
                say("\n".join(f"      {l}" for l in lines[-80:]))


def python_stage(totals, title, command):
    """A unittest run, its own output shown."""
    say(f"== {title}")
    run = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ran = 0
    counts = {}
    for line in run.stdout:
        say(f"   {line.rstrip()}")
        if found := re.match(r"Ran (\d+) tests? in", line):
            ran += int(found[1])
        if found := re.match(r"(?:OK|FAILED) ?\((.*)\)", line):
            counts = {k.strip(): int(v) for k, v in (part.split("=") for part in found[1].split(","))}
    code = run.wait()
    failed = counts.get("failures", 0) + counts.get("errors", 0)
    skipped = counts.get("skipped", 0)
    if code != 0 and failed == 0 or ran == 0:
        failed += 1
    if failed:
        totals.problems.append(title)
    if skipped:
        totals.skips.append(f"{title}: {skipped}")
    totals.add(max(0, ran - failed - skipped), failed, skipped)


def docs_stage(totals):
    """What is written about the project agrees with it."""
    python_stage(totals, "documents and scripts", [sys.executable, "-m", "unittest", "discover", "-s", "tests/unit/scripts", "-t", "."])


def kubernetes_parts():
    """The control plane that integration and end-to-end tests start, built before them: where it cannot be, they say so and skip."""
    say("== Kubernetes control plane for the tests")
    built = subprocess.run([ROOT / "scripts" / "kubernetes.sh"], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True)
    for line in built.stdout.splitlines() or ["kubernetes: up to date"]:
        say(f"   {line}")


def sanitizer_stage(totals):
    say("== unit tests under AddressSanitizer and UndefinedBehaviorSanitizer")
    built = subprocess.run([ROOT / "scripts" / "build.sh", "asan", str(os.cpu_count() or 2), "unit_tests"], cwd=ROOT,
                           env={**os.environ, "CMAKE_ARGS": "-DTALLYGATE_UNIT_ONLY=ON"}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if built.returncode != 0:
        say(built.stdout[-6000:] + built.stderr[-2000:])
        totals.add(0, 1, 0)
        totals.problems.append("sanitizer build")
        return
    gtest_stage(totals, "unit tests, sanitized", "asan", "unit", os.cpu_count() or 2)


def main():
    chosen = sys.argv[1:] or list(STAGES)
    if unknown := [s for s in chosen if s not in STAGES]:
        print(f"no such stage: {', '.join(unknown)}; there are {', '.join(STAGES)}", file=sys.stderr)
        return 64
    totals = Totals()
    began = time.monotonic()
    python = sys.executable
    if "docs" in chosen:
        docs_stage(totals)
    if "unit" in chosen:
        gtest_stage(totals, "unit tests", "release", "unit", os.cpu_count() or 2)
    if "emulator" in chosen:
        python_stage(totals, "Stripe emulator", [python, "-m", "unittest", "discover", "-s", "tests/unit/stripe_emulator", "-t", "."])
    if "integration" in chosen or "e2e" in chosen:
        kubernetes_parts()
    if "integration" in chosen:
        gtest_stage(totals, "integration tests", "release", "integration", 1)
    if "environments" in chosen:
        gtest_stage(totals, "environments as they are found", "release", "environments", 1)
    if "e2e" in chosen:
        python_stage(totals, "end to end", [python, "tests/run_e2e.py"])
    if "sanitizer" in chosen:
        sanitizer_stage(totals)
    say("")
    for skip in totals.skips:
        say(f"SKIPPED  {skip}")
    for problem in totals.problems:
        say(f"FAILED   {problem}")
    say(f"took {time.monotonic() - began:.0f} s")
    say(f"{totals.passed} passed, {totals.failed} failed, {totals.skipped} skipped")
    return 1 if totals.failed else 0


if __name__ == "__main__":
    sys.exit(main())
