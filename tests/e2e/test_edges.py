"""The data port at its edges, on real sockets and with real clients: who sends all before reading, who says nothing, who half-closes; few
descriptors; the end of a process behind a balancer."""

import http.client
import json
import pathlib
import shutil
import signal
import socket
import subprocess

from tests.e2e.base import StackTest

UPLOAD_BYTES = 20_000_000
ROUNDS = 4
NODE = """
const http = require('http');
const [host, port, bytes, rounds] = process.argv.slice(1);
const ask = () => new Promise((done) => {
  const request = http.request({host, port, method: 'POST', path: '/', headers: {'X-Tenant-Id': 'acme', 'Content-Length': bytes}},
                               (response) => { response.resume(); response.on('end', () => done(response.statusCode)); });
  request.on('error', (error) => done(error.code));
  request.end(Buffer.alloc(+bytes));
});
(async () => { const all = []; for (let i = 0; i < +rounds; ++i) all.push(await ask()); console.log(JSON.stringify(all)); })();
"""
GO = """
package main

import ("bytes"; "encoding/json"; "fmt"; "io"; "net/http"; "os"; "strconv")

func main() {
	size, _ := strconv.Atoi(os.Args[2])
	rounds, _ := strconv.Atoi(os.Args[3])
	all := []any{}
	for i := 0; i < rounds; i++ {
		request, _ := http.NewRequest("POST", "http://"+os.Args[1]+"/", bytes.NewReader(make([]byte, size)))
		request.Header.Set("X-Tenant-Id", "acme")
		response, err := http.DefaultClient.Do(request)
		if err != nil { all = append(all, err.Error()); continue }
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		all = append(all, response.StatusCode)
	}
	text, _ := json.Marshal(all)
	fmt.Println(string(text))
}
"""


def dial(address):
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), 10)
    connection.settimeout(10)
    return connection


def read_all(connection):
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


class Edges(StackTest):
    def exhausted(self):
        sidecar, = self.start("a", tenants={"acme": 2})
        self.until_status(sidecar, "acme", 429, 10)
        return sidecar

    def test_a_denial_reaches_who_sends_all_of_a_large_body_first(self):
        sidecar = self.exhausted()
        host, _, port = sidecar.address.rpartition(":")
        statuses = []
        for _ in range(ROUNDS):
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            connection.request("POST", "/", bytes(UPLOAD_BYTES), {"X-Tenant-Id": "acme"})  # reads nothing before all is sent
            statuses.append(connection.getresponse().status)
            connection.close()
        self.assertEqual(statuses, [429] * ROUNDS, "Python")

    def run_client(self, argv):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
        self.assertEqual(json.loads(done.stdout), [429] * ROUNDS)

    def test_a_denial_reaches_node(self):
        if shutil.which("node") is None:
            self.skipTest("no node: install nodejs")
        host, _, port = self.exhausted().address.rpartition(":")
        self.run_client(["node", "-e", NODE, host, port, str(UPLOAD_BYTES), str(ROUNDS)])

    def test_a_denial_reaches_go(self):
        if shutil.which("go") is None:
            self.skipTest("no go: install golang")
        folder = pathlib.Path(self.stack.folder)
        (folder / "upload.go").write_text(GO)
        subprocess.run(["go", "build", "-o", folder / "upload", folder / "upload.go"], check=True, timeout=300)
        self.run_client([folder / "upload", self.exhausted().address, str(UPLOAD_BYTES), str(ROUNDS)])

    def test_a_half_close_without_a_lease_is_answered(self):
        sidecar, = self.start("a", tenants={"acme": 100})
        with dial(sidecar.address) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: acme\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            self.assertTrue(read_all(connection).startswith(b"HTTP/1.1 200 "))

    def test_silent_connections_keep_nobody_out(self):
        self.start(tenants={"acme": 100})
        sidecar = self.stack.start_sidecar("a", "shop/api", flags=["--max-connections", "50"])
        silent = [dial(sidecar.address) for _ in range(200)]
        self.assertEqual(self.ask(sidecar, "acme").status, 200)
        for connection in silent:
            connection.close()
        self.assertGreater(sidecar.metric("tallygate_sidecar_client_connections_displaced_total"), 140)

    def test_few_descriptors_leave_enough_for_log_and_redis(self):
        self.start(tenants={"acme": 1000})
        sidecar = self.stack.start_sidecar("a", "shop/api")
        sidecar.term()
        sidecar.argv = ["prlimit", "--nofile=64:256", *sidecar.argv]
        sidecar.start()
        said = [line for line in sidecar.log_lines() if "RLIMIT_NOFILE" in line.get("msg", "")]
        self.assertEqual((said[0]["limit"], said[0]["taken"]), (256, 64))
        held = [dial(sidecar.address) for _ in range(300)]
        for _ in range(20):
            self.assertEqual(self.ask(sidecar, "acme").status, 200)
        self.assertEqual(sidecar.metric("tallygate_sidecar_accept_failures_total"), 0)
        self.assertEqual(sidecar.metric("tallygate_sidecar_log_failures_total"), 0)
        for connection in held:
            connection.close()
        self.assert_books("acme", 20)

    def test_a_drain_delay_tells_the_balancer_first(self):
        self.start(tenants={"acme": 100})
        sidecar = self.stack.start_sidecar("a", "shop/api", flags=["--drain-delay", "10m"])
        sidecar.process.send(signal.SIGTERM)
        self.stack.wait_until(lambda: not sidecar.ready(), 10, "the sidecar says that it is not ready")
        for _ in range(5):
            self.assertEqual(self.ask(sidecar, "acme").status, 200, "new connections are taken until the delay is over")
        self.assertEqual(sidecar.term(), 0, "a second signal ends the delay")
        with self.assertRaises(OSError):
            dial(sidecar.address)
        self.assert_books("acme", 5)


if __name__ == "__main__":
    import unittest

    unittest.main()
