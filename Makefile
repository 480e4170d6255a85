# What a person does with a checkout. `make help` lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Build results live outside of the checkout, so that a clean clone stays clean and several clones share them.
export VEDETTE_CACHE ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/vedette
export CARGO_TARGET_DIR ?= $(VEDETTE_CACHE)/target
BINARIES := -p vedette-cli -p vedette-agent -p vedette-aggregator -p vedette-range

.PHONY: console test-console help demo test bench lint format prepare vm-image images manifests recordings range-check evaluate model

help: ## list what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## build, then show attacks being found on this machine (live as root on Linux, else a recording); ARGS="--report FILE --keep"
	cargo build --release $(BINARIES) --bins
	"$(CARGO_TARGET_DIR)/release/vedette" demo $(ARGS)

test: prepare vm-image ## install what the tests need where that is missing and possible, then run every test; ARGS="-E 'test(...)'"
	scripts/run-tests $(ARGS)

console: ## build the web console into console/dist, which is committed (npm; everything else builds without)
	cd console && npm ci --no-audit --no-fund && npm run build

test-console: prepare ## drive the web console in a browser; pictures of every page go to target/screenshots
	scripts/run-tests -E 'package(vedette-tests) & binary(console)' --success-output final

bench: ## run the benchmarks, write target/bench.json and print it as a table
	scripts/run-benches $(ARGS)

lint: ## formatting, clippy, protocol lint, licences and sources of dependencies
	scripts/run-lints

format: ## format every Rust file
	cargo fmt --all

prepare: ## install what the tests need (qemu, a kernel, busybox, Python's gRPC client)
	scripts/prepare-tests

vm-image: ## build the image of the cgroup v2 virtual machine
	scripts/build-vm-image

images: ## build OCI archives of agent, aggregator and range, with bills of materials, into target/images; ARGS="agent"
	scripts/build-images $(ARGS)

manifests: prepare ## render manifests/install.yaml from manifests/base
	"$(VEDETTE_CACHE)/python/bin/python" scripts/render-manifests

recordings: ## record the sessions of plans/sessions.yaml that are not there yet, a commit each (root, an idle machine); ARGS="--only NAME"
	scripts/record-sessions $(ARGS)

evaluate: prepare ## judge detection on recordings, on data sets of others and on made-up ordinary work, write target/evaluation.json; ARGS="seed nezha"
	"$(VEDETTE_CACHE)/python/bin/python" scripts/evaluate $(ARGS)

model: ## train the kind classifier on the recordings into detect/model, signed by ~/.config/vedette/model.key; ARGS="--seed N"
	cargo build --release -p vedette-cli --bin vedette
	"$(CARGO_TARGET_DIR)/release/vedette" train --recordings recordings --out detect/model/kind.vdtm $(ARGS)

range-check: prepare ## what the recordings hold, whether the injection shows in them, how far attacks and twins are apart; writes docs/
	"$(VEDETTE_CACHE)/python/bin/python" scripts/range-check $(ARGS)
