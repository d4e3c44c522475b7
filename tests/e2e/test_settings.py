"""Malformed flags and environment: the process refuses to start with exit 64 and lists every fault. Requirement G; issue: each malformed flag or
environment value gets a clear error."""

import hashlib
import re
import subprocess
import tempfile
import unittest

from tests.support.stack import binary

USAGE = 64
SIDECAR = {"--listen": "127.0.0.1:0", "--upstream": "127.0.0.1:9", "--admin": "127.0.0.1:0", "--policy": "shop/api", "--redis-url": "redis://127.0.0.1:9"}
OPERATOR = {"--source": "dir:/tmp", "--redis-url": "redis://127.0.0.1:9", "--database-url": "postgresql://u@127.0.0.1:9/d",
            "--stripe-api-base": "http://127.0.0.1:9", "--admin": "127.0.0.1:0"}

# name → (changes of flags: None leaves one out; environment; what the error must name)
SIDECAR_CASES = {
    "no flags at all": (dict.fromkeys(SIDECAR), {}, ["upstream", "policy", "redis-url"]),
    "an unknown flag": ({"--bogus": "1"}, {}, ["bogus"]),
    "listen without a port": ({"--listen": "127.0.0.1"}, {}, ["listen"]),
    "listen on a port that is no number": ({"--listen": "127.0.0.1:http"}, {}, ["listen"]),
    "listen on a port out of range": ({"--listen": "127.0.0.1:65536"}, {}, ["listen"]),
    "an upstream without a port": ({"--upstream": "localhost"}, {}, ["upstream"]),
    "an empty upstream": ({"--upstream": ""}, {}, ["upstream"]),
    "an upstream that is the sidecar itself": ({"--listen": "127.0.0.1:8080", "--upstream": "127.0.0.1:8080"}, {}, ["upstream", "itself"]),
    "an upstream that is the sidecar by name": ({"--listen": ":8080", "--upstream": "localhost:8080"}, {}, ["upstream", "itself"]),
    "an admin address without a port": ({"--admin": "0.0.0.0"}, {}, ["admin"]),
    "a policy without a namespace": ({"--policy": "api"}, {}, ["policy"]),
    "a policy with a bad name": ({"--policy": "shop/API_1"}, {}, ["policy"]),
    "a policy with two slashes": ({"--policy": "a/b/c"}, {}, ["policy"]),
    "a Redis URL of another scheme": ({"--redis-url": "http://127.0.0.1:6379"}, {}, ["redis-url"]),
    "a Redis URL that is none": ({"--redis-url": "::::"}, {}, ["redis-url"]),
    "a Redis URL in the environment that is none": ({"--redis-url": None}, {"TALLYGATE_REDIS_URL": "nonsense"}, ["TALLYGATE_REDIS_URL"]),
    "Redis in plain text elsewhere": ({"--redis-url": "redis://redis.example:6379"}, {}, ["redis-url", "rediss://", "--redis-insecure"]),
    "Redis by a name that looks like this machine": ({"--redis-url": "redis://127.example.com"}, {}, ["redis-url", "plain text"]),
    "a secret in a flag": ({"--redis-url": "redis://:hunter2@127.0.0.1:9"}, {}, ["redis-url"]),
    "a ledger without a token": ({"--ledger-url": "http://127.0.0.1:9"}, {}, ["ledger-token-file"]),
    "a token without a ledger": ({"--ledger-token-file": "/etc/hostname"}, {}, ["ledger-token-file"]),
    "a token file that is not there": ({"--ledger-url": "http://127.0.0.1:9", "--ledger-token-file": "/no/such/file"}, {}, ["ledger-token-file"]),
    "a token over plain HTTP to elsewhere": ({"--ledger-url": "http://operator.example:8080", "--ledger-token-file": "/etc/hostname"}, {}, ["ledger-url", "https"]),
    "a ledger of another scheme": ({"--ledger-url": "redis://127.0.0.1:9", "--ledger-token-file": "/etc/hostname"}, {}, ["ledger-url"]),
    "a ledger with a user": ({"--ledger-url": "http://me@127.0.0.1:9", "--ledger-token-file": "/etc/hostname"}, {}, ["ledger-url"]),
    "a ledger's password in a flag": ({"--ledger-url": "http://me:hunter2@127.0.0.1:9", "--ledger-token-file": "/etc/hostname"}, {}, ["ledger-url"]),
    "a ledger's authorities that are not there": ({"--ledger-url": "https://127.0.0.1:9", "--ledger-token-file": "/etc/hostname", "--ledger-ca-file": "/no/ca"}, {},
                                                  ["ledger-ca-file"]),
    "publication keys that are none": ({"--publication-key-file": "/etc/hostname"}, {}, ["publication-key-file", "PUBLIC KEY", "publication key"]),
    "publication keys that are a folder": ({"--publication-key-file": "/etc"}, {}, ["publication-key-file"]),
    "a head of no bytes": ({"--max-head-bytes": "0"}, {}, ["max-head-bytes"]),
    "a head of gigabytes": ({"--max-head-bytes": "1GiB"}, {}, ["max-head-bytes"]),
    "more fields than there is room for": ({"--max-head-fields": "129"}, {}, ["max-head-fields"]),
    "a trailer limit that is no size": ({"--max-trailer-bytes": "many"}, {}, ["max-trailer-bytes"]),
    "a body limit of another unit": ({"--max-body-bytes": "10MB"}, {}, ["max-body-bytes"]),
    "a negative rate": ({"--min-upload-rate": "-1"}, {}, ["min-upload-rate"]),
    "a linger time without a unit": ({"--linger-timeout": "30"}, {}, ["linger-timeout"]),
    "a pool's time of nought": ({"--pool-idle-timeout": "0s"}, {}, ["pool-idle-timeout"]),
    "a pool that is no number": ({"--max-pooled-connections": "some"}, {}, ["max-pooled-connections"]),
    "no connections": ({"--max-connections": "0"}, {}, ["max-connections"]),
    "a share of connections that is none": ({"--max-connections-per-address": "half"}, {}, ["max-connections-per-address"]),
    "a drain delay without a unit": ({}, {"TALLYGATE_DRAIN_DELAY": "5"}, ["TALLYGATE_DRAIN_DELAY"]),
    "a resend that is neither": ({}, {"TALLYGATE_UPSTREAM_RESEND": "maybe"}, ["TALLYGATE_UPSTREAM_RESEND"]),
    "three faults at once": ({"--listen": "x", "--upstream": "y", "--policy": "z"}, {}, ["listen", "upstream", "policy"]),
}
OPERATOR_CASES = {
    "no flags at all": (dict.fromkeys(OPERATOR), {}, ["source", "redis-url", "database-url"]),
    "an unknown flag": ({"--bogus": "1"}, {}, ["bogus"]),
    "a source of no known kind": ({"--source": "/etc/manifests"}, {}, ["source"]),
    "a database URL of another scheme": ({"--database-url": "mysql://127.0.0.1/x"}, {}, ["database-url"]),
    "Redis in plain text elsewhere": ({"--redis-url": "redis://10.0.0.7:6379"}, {}, ["redis-url", "rediss://", "--redis-insecure"]),
    "a database in plain text elsewhere": ({"--database-url": "postgresql://u@db.example/d?sslmode=prefer"}, {},
                                           ["database-url", "sslmode=verify-full", "--database-insecure"]),
    "a database that the environment names": ({"--database-url": "postgresql:///d"}, {"PGHOST": "db.example"}, ["database-url", "plain text"]),
    "the API's database in plain text elsewhere": ({"--api-database-url": "postgresql://u@db.example/d"}, {}, ["api-database-url", "plain text"]),
    "a publication key that is none": ({"--publication-key-file": "/etc/hostname"}, {}, ["publication-key-file", "openssl genpkey"]),
    "a publication key that is not there": ({"--publication-key-file": "/no/key"}, {}, ["publication-key-file"]),
    "a Stripe base that is no URL": ({"--stripe-api-base": "stripe"}, {}, ["stripe-api-base"]),
    "an interval without a unit": ({"--aggregate-interval": "60"}, {}, ["aggregate-interval"]),
    "a negative interval": ({"--submit-interval": "-5m"}, {}, ["submit-interval"]),
    "an interval of nought": ({"--aggregate-interval": "0s"}, {}, ["aggregate-interval"]),
    "an admin port that is no number": ({"--admin": "127.0.0.1:x"}, {}, ["admin"]),
    "a Stripe key that is none": ({}, {"STRIPE_API_KEY": "hunter2"}, ["STRIPE_API_KEY"]),
    "faults in flags and environment together": ({"--source": "x", "--redis-url": None}, {"TALLYGATE_REDIS_URL": "y"},
                                                 ["source", "TALLYGATE_REDIS_URL"]),
}


class Settings(unittest.TestCase):
    def run_with(self, name, flags, env, folder):
        argv = [binary(name), "run", *(part for flag, value in flags.items() if value is not None for part in (flag, value))]
        if name == "tallygate-sidecar":
            argv += ["--data-dir", folder]
        environment = {"PATH": "/usr/bin:/bin", "STRIPE_API_KEY": "sk_test_emulator", **env}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=10, check=False)

    def check_table(self, name, good, cases):
        with tempfile.TemporaryDirectory() as folder:
            for case, (flags, env, named) in cases.items():
                with self.subTest(f"{name}: {case}"):
                    done = self.run_with(name, {**good, **flags}, env, folder)
                    self.assertEqual(done.returncode, USAGE, done.stderr)
                    for word in named:
                        self.assertIn(word, done.stderr)
                    self.assertNotIn("hunter2", done.stdout + done.stderr)

    def test_sidecar(self):
        self.check_table("tallygate-sidecar", SIDECAR, SIDECAR_CASES)

    def test_operator(self):
        self.check_table("tallygate-operator", OPERATOR, OPERATOR_CASES)

    def test_commands_and_help(self):
        for name in ("tallygate-sidecar", "tallygate-operator"):
            with self.subTest(name):
                self.assertEqual(subprocess.run([binary(name), "frobnicate"], capture_output=True, timeout=10, check=False).returncode, USAGE)
                self.assertEqual(subprocess.run([binary(name)], capture_output=True, timeout=10, check=False).returncode, USAGE)
                done = subprocess.run([binary(name), "run", "--help"], capture_output=True, text=True, timeout=10, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                for flag in SIDECAR if name == "tallygate-sidecar" else OPERATOR:
                    self.assertIn(flag, done.stdout)
        done = subprocess.run([binary("tallygate-operator"), "migrate"], env={"PATH": "/usr/bin"}, capture_output=True, text=True, timeout=10,
                              check=False)
        self.assertEqual(done.returncode, USAGE)
        self.assertIn("database-url", done.stderr)

    def test_a_new_key_comes_with_its_hash(self):
        made = [subprocess.run([binary("tallygate-operator"), "key", "new"], capture_output=True, text=True, timeout=10, check=True).stdout
                for _ in range(2)]
        keys = [re.fullmatch(r"key:  (tgk_[0-9a-f]{32})\nhash: (sha256:[0-9a-f]{64})\n", text).groups() for text in made]
        self.assertEqual(len({key for key, _ in keys}), 2)
        for key, digest in keys:
            self.assertEqual(digest, "sha256:" + hashlib.sha256(key.encode()).hexdigest())


if __name__ == "__main__":
    unittest.main()
