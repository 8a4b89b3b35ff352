# `make verify` only reads and is what a change must pass; `make fix` edits.

# The command that runs the tests; `.ci/run` has just run it when it comes here, and passes `:`.
TEST_COMMAND ?= cargo test --workspace

# Seconds that `make fuzz` gives each target, and which targets it runs.
FUZZ_SECONDS ?= 20
FUZZ_TARGETS ?= $(notdir $(basename $(wildcard fuzz/fuzz_targets/*.rs)))

# The fuzz targets without a fuzzer: built crates are shared with the workspace, and no C++ is compiled.
FUZZ_CRATE = --manifest-path fuzz/Cargo.toml --target-dir $${CARGO_TARGET_DIR:-target} --no-default-features

# What is built with the backend on disk. Named in this way by all commands: one that named other packages or features would
# compile the C++ once more.
ROCKSDB = --package dledger --package kvcli --features rocksdb

.PHONY: verify format lint tidy docs test fuzz-check test-rocksdb fuzz fix sim

verify: format lint tidy docs test fuzz-check test-rocksdb

format:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

# One quick suite, ahead of the others for its early answer.
tidy:
	cargo test --quiet --test tidy

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test:
	$(TEST_COMMAND)

# Keeps the fuzz targets compiling, and feeds each its seeds and some mutants of them.
fuzz-check:
	cargo clippy $(FUZZ_CRATE) --features targets --all-targets -- -D warnings
	cargo test $(FUZZ_CRATE) --quiet --test seeds

# The backend on disk: compiles RocksDB, some 25 minutes on two cores, when that was not done before; needs libclang.
test-rocksdb:
	cargo clippy $(ROCKSDB) --all-targets -- -D warnings
	cargo test $(ROCKSDB) --quiet --lib --test kv_store --test rocksdb --test demo

# A short run of each fuzz target; fails at the first that breaks a claim. See fuzz/README.md. Without a sanitizer: what is
# fuzzed is safe Rust, and twice as many inputs are tried.
fuzz:
	@cargo +nightly --version >/dev/null 2>&1 || \
	    { echo 'make fuzz needs the nightly toolchain: rustup toolchain install nightly' >&2; exit 1; }
	@cargo fuzz --version >/dev/null 2>&1 || { echo 'make fuzz needs cargo-fuzz: cargo install cargo-fuzz' >&2; exit 1; }
	cargo run $(FUZZ_CRATE) --quiet --example seeds
	cargo +nightly fuzz build --sanitizer none
	@set -e; for target in $(FUZZ_TARGETS); do \
	    echo "== $$target, $(FUZZ_SECONDS) s"; \
	    cargo +nightly fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -timeout=10 -verbosity=0 -print_final_stats=1; \
	done

fix:
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

# One run of the simulator, event by event; without SEED a sweep.
sim:
	cargo run --release -p simulator -- $(if $(SEED),--seed $(SEED) --trace,--seeds 300)
