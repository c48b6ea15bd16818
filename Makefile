# libflowmesh: `make help` lists what there is to do.

CARGO  ?= cargo --locked
CC     ?= cc
FILE   ?= include/flowmesh.h
ROUNDS ?= 50
CUTS   ?= 200

TARGET  := target
RELEASE := $(TARGET)/release
DATA    := $(TARGET)/run

.DEFAULT_GOAL := help

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what building and testing need
	@scripts/setup

.PHONY: build
build: ## The library (shared, static) and the server, optimised, in target/release
	@echo "== build"
	@scripts/build

# Where `make install` puts things; also BINDIR, LIBDIR, INCLUDEDIR, MANDIR.
PREFIX  ?= /usr/local
DESTDIR ?=
export PREFIX DESTDIR RELEASE

.PHONY: install
install: ## What `make build` made, for everybody (PREFIX=/usr/local DESTDIR=)
	@[ -e $(RELEASE)/flowmesh-server ] || $(MAKE) --no-print-directory build
	@packaging/install install

.PHONY: uninstall
uninstall: ## Take away what `make install` put there
	@packaging/install uninstall

.PHONY: deb
deb: build ## Debian packages, in target/deb
	@packaging/deb

.PHONY: abi abi-renew
abi: build ## Compare the header and the library's symbols with the last release's
	@packaging/abi/check

abi-renew: build ## Record them as those of a release
	@packaging/abi/check --renew

.PHONY: examples
examples: build
	@$(MAKE) --no-print-directory -C examples-c OUT=$(abspath $(TARGET)/examples) LIB=$(abspath $(RELEASE))

.PHONY: run
run: setup-build examples ## Build, run the quickstart in a directory, ship a file through the server (FILE=)
	@scripts/run $(FILE)

.PHONY: setup-build
setup-build:
	@scripts/setup build

.PHONY: test
test: setup ## Every suite: Rust, C, C++, Go, Python, valgrind, ASan, stress, soak, packages, docs
	@scripts/test

.PHONY: crash
crash: ## Kill a writing process with SIGKILL and check what it was told (ROUNDS=50)
	FLOWMESH_CRASH_ROUNDS=$(ROUNDS) $(CARGO) test -p flowmesh-server --test crash -- --nocapture

.PHONY: powercut
powercut: ## Cut the power under the whole engine on a failing disk (CUTS=200 SEED=)
	FLOWMESH_CUTS=$(CUTS) FLOWMESH_SEED=$(SEED) $(CARGO) test -p flowmesh-server --lib \
		powercut::what_was_acknowledged -- --nocapture

.PHONY: stress
stress: build ## Threads that use, cancel, close and free at random (SECONDS=60 SEED= THREADS=8)
	@$(MAKE) --no-print-directory -C tests/stress stress

.PHONY: soak
soak: build ## Load while all around it fails: connections, server, disk, clock (SECONDS=3600 SEED=)
	FLOWMESH_SERVER=$(abspath $(RELEASE))/flowmesh-server FLOWMESH_SOAK_SECONDS=$(or $(SECONDS),3600) \
	FLOWMESH_SOAK_SEED=$(SEED) $(CARGO) test --test soak -- --ignored --nocapture

.PHONY: asan
asan: build ## The tests of the C API and the stress program (SECONDS=60) with AddressSanitizer
	@tests/asan/run $(SECONDS)

.PHONY: fuzz
fuzz: ## Fuzz every byte that comes from outside, a minute each (SECONDS=60; ONLY= a name in fuzz/seeds)
	@fuzz/run $(or $(SECONDS),60) $(ONLY)

.PHONY: deny
deny: ## Licences, sources, bans and duplicates of the dependencies, by cargo-deny (built first: minutes)
	@[ -x $(DENY) ] || $(CARGO) install --quiet cargo-deny@0.20.2 --locked --root $(TARGET)/tools
	@$(DENY) --workspace --all-features --locked check -D unmatched-skip \
		-D license-not-encountered -D license-exception-not-encountered bans licenses sources

.PHONY: sbom
sbom: ## Bills of materials of the library and the server (CycloneDX), in target/sbom
	@scripts/sbom.py

.PHONY: reproducible
reproducible: ## Build twice, in two directories, and compare
	@tests/reproducible

.PHONY: proto
proto: ## Rebuild the Rust types from proto/flowmesh/v1/flowmesh.proto
	touch proto/flowmesh/v1/flowmesh.proto
	$(CARGO) build -p flowmesh-proto

.PHONY: docs
docs: ## The site: guides and reference, in target/docs/html; any warning is an error
	@mkdir -p $(TARGET)/docs
	doxygen docs/Doxyfile
	mandoc -T lint -W warning docs/man/*.[0-9]

.PHONY: header
header: ## Regenerate include/flowmesh.h from the Rust sources
	FLOWMESH_RENEW_HEADER=1 $(CARGO) test -q --test header

DENY       = $(TARGET)/tools/bin/cargo-deny
RUFF       = $(TARGET)/tools/bin/ruff
PY_SOURCES = $(shell git ls-files '*.py') tests/logship tests/docs
C_SOURCES  = $(shell git ls-files '*.c' '*.h' '*.cc' '*.cpp' '*.hpp' ':!include/flowmesh.h')

.PHONY: format
format: ## Format Rust, C, C++, Go and Python
	$(CARGO) fmt --all
	clang-format -i $(C_SOURCES)
	$(RUFF) format $(PY_SOURCES)
	! command -v gofmt >/dev/null || gofmt -w bindings/go bench/go

.PHONY: lint
lint: ## Formatting and lints, as CI checks them
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --lib -- -D warnings
	clang-format --dry-run -Werror $(C_SOURCES)
	$(RUFF) check $(PY_SOURCES)
	$(RUFF) format --check $(PY_SOURCES)

.PHONY: bench
bench: setup-bench build ## Engine and client benchmarks against their peers, as tables
	@bench/run

.PHONY: setup-bench
setup-bench:
	@scripts/setup bench

.PHONY: go
go: build ## The Go package: its tests, plain and with the race detector, examples and guide
	@LIB=$(RELEASE) tests/go

.PHONY: python
python: build ## The Python package: installed into target/python, typed, tested
	@tests/python

.PHONY: bench-peers
bench-peers: build ## The whole system against NATS, Redis, PostgreSQL, beanstalkd, Kafka, etcd
	bench/peers/run.py --install
	bench/peers/run.py --rounds 5

.PHONY: clean
clean: ## Remove everything that was built
	$(CARGO) clean
