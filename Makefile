# etcd-bootstrap. `make demo` and `make test` install what they need, or say exactly what is missing.
.PHONY: build image demo test test-long test-kubernetes test-kubernetes-long model chaos mutants bench clean

# Where tests/setup unpacks an etcd if none is installed.
export PATH := $(PATH):$(CURDIR)/target/etcd

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BUILT := target/$(HOST)/release/etcd-bootstrap
# An own flag for the release alone: procedural macros cannot be linked statically, and --target keeps it from them.
STATIC := CARGO_TARGET_$(shell echo $(HOST) | tr 'a-z-' 'A-Z_')_RUSTFLAGS="-C target-feature=+crt-static"
# Scenarios wait more than they compute.
AT_ONCE := $(shell echo $$((2 * $$(nproc))))
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env PATH="$$PATH")

build: ## the static binary
	@tests/setup build
	$(STATIC) cargo build --release --locked --target $(HOST)
	@ls -l $(BUILT)

# Which etcd image to build upon (the Dockerfile's default otherwise), and under which name.
ETCD_IMAGE ?=
RUST_IMAGE ?=
TAG ?= etcd-bootstrap:latest
TARGET ?= image
# A binary that is there already: the build context holds nothing else, and no Rust image is needed.
BINARY ?=
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
REVISION := $(shell git rev-parse HEAD 2>/dev/null)

image: ## an image with etcd: ETCD_IMAGE=… TAG=… [BINARY=PATH] [TARGET=binary]
	@context=.; from=compiled; \
	if [ -n "$(BINARY)" ]; then \
	  context=$$(mktemp -d); trap 'rm -rf "$$context"' EXIT; from=given; cp "$(BINARY)" "$$context/etcd-bootstrap"; \
	fi; \
	DOCKER_BUILDKIT=1 docker build --network host --file Dockerfile --target $(TARGET) --tag $(TAG) \
	  $(if $(ETCD_IMAGE),--build-arg ETCD_IMAGE=$(ETCD_IMAGE)) $(if $(RUST_IMAGE),--build-arg RUST_IMAGE=$(RUST_IMAGE)) \
	  --build-arg BINARY_FROM=$$from --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) "$$context"

demo: ## three pods with real etcd found a cluster, a fourth joins
	@tests/setup pods
	@cargo build --locked --bin etcd-bootstrap --example demo
	@$(AS_ROOT) target/debug/examples/demo

test: ## everything that proves a rule
	@tests/setup pods
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	$(AS_ROOT) env RUST_TEST_THREADS=$(AT_ONCE) cargo test --locked --no-fail-fast --features failpoints

test-long: ## full matrices and long runs
	@tests/setup pods
	$(AS_ROOT) env RUST_TEST_THREADS=$(AT_ONCE) TEST_LONG=1 cargo test --locked --no-fail-fast --features failpoints
	$(AS_ROOT) env RUST_TEST_THREADS=$(AT_ONCE) TEST_TLS=1 cargo test --locked --no-fail-fast --features failpoints --test pods
	cargo test --locked --profile model --test model -- --ignored --nocapture long_

# The etcd images to test with, the main one first, and the command that brings images to the cluster's nodes.
ETCD_IMAGES ?= gcr.io/etcd-development/etcd:v3.6.16 gcr.io/etcd-development/etcd:v3.7.3
LOAD_IMAGE ?= kind load docker-image
# Called as `COMMAND stop NODE` and `COMMAND start NODE`: a node loses its power, and gets it back.
NODE_POWER ?= docker

test-kubernetes: ## on the cluster that KUBECONFIG names (kind, say), which needs five nodes
	@tests/setup build
	ETCD_IMAGES="$(ETCD_IMAGES)" BINARY="$(BINARY)" LOAD_IMAGE="$(LOAD_IMAGE)" tests/kubernetes/images
	ETCD_IMAGES="$(ETCD_IMAGES)" NODE_POWER="$(NODE_POWER)" TEST_KUBERNETES=1 \
	  cargo test --locked --no-fail-fast --test kubernetes -- --test-threads 4

test-kubernetes-long: export TEST_LONG = 1
test-kubernetes-long: test-kubernetes ## the same with more kills, and with the image compiled by the Dockerfile

model: ## the exhaustive check in full, and each seeded bug: minutes, ten each for 4 and 5 pods (SECONDS=…), several GiB of memory
	@tests/setup build
	MODEL_SECONDS=$(SECONDS) cargo test --locked --profile model --test model -- \
		--include-ignored --nocapture --test-threads 1 full_ bug_ one_founder no_livelock

SECONDS ?= 600
chaos: ## random faults on real etcd: make chaos SECONDS=600 SEED=7 VERSIONS=3.5.35,3.6.16 (several: a rolling upgrade)
	@tests/setup pods
	$(AS_ROOT) env CHAOS_SECONDS=$(SECONDS) CHAOS_SEED=$(SEED) CHAOS_VERSIONS=$(VERSIONS) \
		cargo test --locked --test pods -- --ignored --nocapture chaos::for_as_long_as_asked

mutants: ## is every rule of the core missed by a test when it is changed? Wants cargo-mutants
	tests/mutants/run

bench: build ## the time that the entrypoint costs, beside etcd alone: on a machine that does nothing else
	@tests/setup pods
	@cargo build --locked --example bench
	@$(AS_ROOT) target/debug/examples/bench $(BUILT)

clean:
	cargo clean
