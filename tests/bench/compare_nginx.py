#!/usr/bin/env python3
"""CPU per request of a gateway against nginx's plain proxy_pass, same machine, same run, one worker each.

Starts an nginx backend (100-byte answers), nginx as a proxy and the gateway, then drives both with wrk in turns, gateway
on one CPU, wrk and backend on the other. Prints medians of utime+stime per request, and the ratio.

  compare_nginx.py --gateway-cmd 'build/release/bin/proxy_passthrough 127.0.0.1:{port} 127.0.0.1:{backend}'
"""
import argparse
import os
import pathlib
import re
import shlex
import signal
import socket
import statistics
import subprocess
import tempfile
import time

BODY = "0123456789" * 10
BACKEND = """worker_processes 1; daemon off; pid {dir}/backend.pid; error_log {dir}/backend.err warn;
events {{ worker_connections 8192; multi_accept on; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
 server {{ listen 127.0.0.1:{backend} backlog=4096; default_type text/plain; location / {{ return 200 "{body}"; }} }} }}
"""
PROXY = """worker_processes 1; daemon off; pid {dir}/proxy.pid; error_log {dir}/proxy.err warn;
events {{ worker_connections 8192; multi_accept on; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; tcp_nodelay on;
 upstream app {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 600s; }}
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; }} }} }}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port):
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port}")


def children(pid):
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(p) for p in text.split()]


def cpu_seconds(pid):
    """utime+stime of the process and its children (nginx works in one), in seconds."""
    total = 0.0
    for p in [pid, *children(pid)]:
        fields = pathlib.Path(f"/proc/{p}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


class Server:
    def __init__(self, name, command, port, cpu):
        self.name, self.port = name, port
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        self.process = subprocess.Popen(pin + command, stdout=subprocess.DEVNULL)
        wait_for(port)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()


def drive(port, connections, seconds, cpu, headers):
    """One run of wrk: (requests, requests per second). An answer that is not 2xx fails the run."""
    pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
    extra = [x for h in headers for x in ("-H", h)]
    out = subprocess.run(pin + ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *extra, f"http://127.0.0.1:{port}/"],
                         capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"wrk saw errors:\n{out}")
    return int(re.search(r"(\d+) requests in", out)[1]), float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway-cmd", required=True, help="{port} and {backend} are filled in")
    parser.add_argument("--header", action="append", default=[], help="for every request, e.g. a credential")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--ready-s", type=float, default=0.5, help="time the gateway needs before it is driven")
    args = parser.parse_args()
    two = (os.cpu_count() or 1) > 1
    gateway_cpu, load_cpu = (0, 1) if two else (None, None)

    with tempfile.TemporaryDirectory() as folder:
        backend, nginx_port, gateway_port = free_port(), free_port(), free_port()
        for name, text, port in (("backend", BACKEND, backend), ("proxy", PROXY, nginx_port)):
            pathlib.Path(folder, f"{name}.conf").write_text(text.format(dir=folder, backend=backend, port=port, body=BODY))
        nginx = lambda name: ["nginx", "-p", folder, "-e", f"{folder}/{name}.err", "-c", f"{folder}/{name}.conf"]
        command = shlex.split(args.gateway_cmd.format(port=gateway_port, backend=backend))
        servers = [Server("backend", nginx("backend"), backend, load_cpu)]
        try:
            peers = [Server("nginx", nginx("proxy"), nginx_port, gateway_cpu),
                     Server("gateway", command, gateway_port, gateway_cpu)]
            servers += peers
            time.sleep(args.ready_s)
            micros = {p.name: [] for p in peers}
            rates = {p.name: [] for p in peers}
            for p in peers:
                drive(p.port, args.connections, 1, load_cpu, args.header)
            for _ in range(args.rounds):
                for p in peers:
                    before = cpu_seconds(p.process.pid)
                    requests, rate = drive(p.port, args.connections, args.seconds, load_cpu, args.header)
                    micros[p.name].append((cpu_seconds(p.process.pid) - before) / requests * 1e6)
                    rates[p.name].append(rate)
            for p in peers:
                m = micros[p.name]
                print(f"{p.name:8} {statistics.median(m):6.2f} us CPU per request [{min(m):.2f}-{max(m):.2f}], "
                      f"{statistics.median(rates[p.name]):8.0f} requests/s")
            ratios = [g / n for g, n in zip(micros["gateway"], micros["nginx"])]
            print(f"ratio    {statistics.median(ratios):6.3f} x nginx [{min(ratios):.3f}-{max(ratios):.3f}], "
                  "target 0.92, goal 0.85")
        finally:
            for s in reversed(servers):
                s.stop()


if __name__ == "__main__":
    main()
