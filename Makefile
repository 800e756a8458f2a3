# The recipes of this project; CI calls the same ones. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

CARGO ?= cargo
# Tests and lints use one and the same set of features, so that nothing is built twice. It has the
# pause points that let a test stop or kill a program in the middle of a step.
TESTED := --workspace --all-features --locked

.PHONY: help setup setup-tests build test lint quickstart bench soak sim fuzz

help:
	@echo "make quickstart    a small cluster on this machine: backup, restore, compare (ARGS=--keep leaves it up, ARGS=--stop ends that)"
	@echo "make test          every test, on real servers (ARGS: what the runner takes, a test's name say)"
	@echo "make lint          formatting, clippy, licences"
	@echo "make build         the programs, into target/debug"
	@echo "make bench         backup and restore against tar+zstd+age, mariabackup and restic; coordinators against etcd (ARGS=--help)"
	@echo "make soak          the long fault tests, an hour of races; every case of the damage matrix, of the recorded store, of random trees (ARGS as for test)"
	@echo "make sim           so many simulated worlds (SEEDS=20), from the one that SEED (1) names on (ARGS: --seconds N, --verbose)"
	@echo "make fuzz          the readers of the repository's format, each for SECONDS (60)"
	@echo "make setup         what the quickstart needs and this machine lacks, by apt; quickstart does it first"
	@echo "make setup-tests   the same for the tests; test and soak do it first"
	@echo
	@echo "CARGO=... builds with another cargo than the one on the path."

setup:
	@deploy/setup

build:
	$(CARGO) build --workspace --locked

setup-tests:
	@deploy/setup test

quickstart: setup build
	@target/debug/quickstart $(ARGS)

# nextest runs each test in a process of its own and prints one summary; without it cargo's own
# runner does, two clusters at a time.
test: setup-tests
	$(CARGO) build $(TESTED)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run $(TESTED) $(ARGS); \
	else \
	    deploy/cargo-test $(TESTED) $(ARGS); \
	fi

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(TESTED) --all-targets -- -D warnings
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
	    $(CARGO) deny --all-features --locked check bans licenses sources; \
	else \
	    echo "lint: cargo-deny is not installed: licences and sources of dependencies are not checked"; \
	fi

bench:
	@deploy/setup bench
	$(CARGO) build --workspace --locked --release
	@target/release/bench $(ARGS)

soak: setup-tests
	$(CARGO) build $(TESTED)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    SEAWALL_SOAK=1 $(CARGO) nextest run $(TESTED) --profile soak $(ARGS); \
	else \
	    SEAWALL_SOAK=1 deploy/cargo-test $(TESTED) --test e2e --test group_faults $(ARGS); \
	    SEAWALL_SOAK=1 deploy/cargo-test -p seawall-common --all-features --locked --lib repository:: $(ARGS); \
	fi

SEEDS := 20
SEED := 1
sim:
	$(CARGO) build $(TESTED)
	for seed in $$(seq $(SEED) $$(($(SEED) + $(SEEDS) - 1))); do target/debug/sim --seed $$seed $(ARGS) || exit 1; done

SECONDS := 60
fuzz:
	fuzz/run $(SECONDS)
