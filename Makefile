# Everything a person types. `make demo` and `make test` set up, build and run by themselves.
PRESET ?= release
JOBS ?= $(shell nproc)
SECONDS ?= 60

.PHONY: help setup build test test-node demo demo-k8s bench fuzz docs-check images fmt lint clean

help:
	@echo "make setup   install the Debian packages that are missing (root or sudo)"
	@echo "make build   build/$(PRESET)/bin/tallygate-operator and tallygate-sidecar   PRESET=dev|release|asan|tsan"
	@echo "make demo    the whole system on this machine, its story told with real requests   ONCE=1: end after the story"
	@echo "make demo-k8s  its story on a Kubernetes node of this machine's own: chart, a labelled app, 429, kubectl, Stripe   root; ONCE=1"
	@echo "make test    unit, integration, sanitizer and end-to-end tests; one summary at the end"
	@echo "make test-node  on a real node with running pods: chart, injection, traffic, status   root; the first time it builds a kubelet"
	@echo "make bench   CPU per request beside nginx, the admission decision in ns, the usage pump, following an API server"
	@echo "make fuzz    every parser of bytes from outside under libFuzzer   SECONDS=60: how long each; installs clang-19"
	@echo "make docs-check  rules, requirements, reasons, links and the picture of the rooms, held to the code"
	@echo "make images  both container images, with SBOM and checksums, into build/images"
	@echo "make fmt     clang-format; make lint: clang-tidy; make clean"

setup:
	@scripts/setup.sh

build: setup
	@scripts/build.sh $(PRESET) $(JOBS) tallygate-operator tallygate-sidecar

test: setup
	@scripts/build.sh release $(JOBS) all
	@python3 tests/run.py

test-node: setup
	@scripts/setup.sh node
	@scripts/build.sh release $(JOBS) tallygate-operator tallygate-sidecar
	@python3 -m unittest discover -v -s tests/node -t .

demo: build
	@python3 demo/demo.py

demo-k8s:
	@[ "$$(id -u)" -eq 0 ] || { echo "demo-k8s: needs root, as it makes a network namespace, mounts and containers (and takes them away again): sudo make demo-k8s" >&2; \
		echo "demo-k8s: make demo tells the story without a cluster and without root" >&2; exit 2; }
	@scripts/setup.sh node
	@scripts/kubernetes.sh && scripts/kubernetes.sh node && scripts/kubernetes.sh tools helm
	@scripts/build.sh release $(JOBS) tallygate-operator tallygate-sidecar kubectl-tallygate
	@python3 demo/k8s.py

bench: setup
	@scripts/build.sh release $(JOBS) all
	@python3 tests/bench/run.py

fuzz:
	@scripts/setup.sh fuzz
	@scripts/build.sh fuzz $(JOBS) fuzz_targets
	@scripts/fuzz.sh $(SECONDS)

docs-check:
	@python3 scripts/docs_check.py

images:
	@scripts/images.sh

fmt:
	@git ls-files '*.h' '*.cc' | xargs clang-format -i

lint: setup
	@scripts/lint.sh

clean:
	rm -rf build
