# etcd-bootstrap. `make demo` and `make test` install what they need, or say exactly what is missing.
.PHONY: build demo test test-long model clean

HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
BINARY := target/$(HOST)/release/etcd-bootstrap
# An own flag for the release alone: procedural macros cannot be linked statically, and --target keeps it from them.
STATIC := CARGO_TARGET_$(shell echo $(HOST) | tr 'a-z-' 'A-Z_')_RUSTFLAGS="-C target-feature=+crt-static"
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E env PATH="$$PATH")

build: ## the static binary
	@tests/setup build
	$(STATIC) cargo build --release --locked --target $(HOST)
	@ls -l $(BINARY)

demo: ## three pods with real etcd found a cluster, a fourth joins
	@tests/setup pods
	@cargo build --locked --bin etcd-bootstrap --example demo
	@$(AS_ROOT) target/debug/examples/demo

test: ## everything that proves a rule
	@tests/setup pods
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	$(AS_ROOT) cargo test --locked --features failpoints

test-long: ## full matrices and long runs
	@tests/setup pods
	$(AS_ROOT) env TEST_LONG=1 cargo test --locked --features failpoints

model: ## the exhaustive check in full: minutes, and several GiB of memory
	@tests/setup build
	cargo test --locked --profile model --test model -- --ignored --nocapture full_

clean:
	cargo clean
