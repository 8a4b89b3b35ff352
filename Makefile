# `make verify` only reads and is what a change must pass; `make fix` edits.

# The command that runs the tests; `.ci/run` has just run it when it comes here, and passes `:`.
TEST_COMMAND ?= cargo test --workspace

.PHONY: verify format lint tidy docs test fix sim

verify: format lint tidy docs test

format:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings

# One quick suite, ahead of the others for its early answer.
tidy:
	cargo test --quiet --test tidy

docs:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

test:
	$(TEST_COMMAND)

fix:
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all

# One run of the simulator, event by event; without SEED a sweep.
sim:
	cargo run --release -p simulator -- $(if $(SEED),--seed $(SEED) --trace,--seeds 300)
