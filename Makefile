# Two commands do everything on a fresh clone; Python, cargo and a C compiler are
# all that they assume.
#
#   make run     serve examples/ with the release build  (PORT=9000 for another port)
#   make test    every test: Rust, tests/ and integration/
#
# The tests run against the built wheel, installed into $(VENV), never against the
# source tree: a flat package in the working directory would hide the wheel, so
# gunicorn is started elsewhere, and pytest is called by its own name.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
CARGO ?= cargo
# meinheld-wsgi (the extension module) has no Rust tests: it loads only inside an
# interpreter, and tests/ exercises it there.
CARGO_TEST ?= test --workspace --locked
PYTEST ?= $(abspath $(BIN))/pytest
PYTEST_ARGS ?=
# How many threads each suite's servers call their application on, or `green`; one run for each.
WAYS ?= 1 8
# Tests of tests/ that run at once.
AT_ONCE ?= 2
FUZZ_TARGETS ?= head chunked_body proxy_header connection
FUZZ_SECONDS ?= 600
FUZZ_SANITIZER ?= address
FUZZ_RUNS ?= 20000
FUZZ_ARGS ?= -max_len=20000 -print_final_stats=1
SOAK_MINUTES ?= 30
SOAK_ARGS ?=
# Where the servers that `make bench` compares with are installed, and what benchmarks/bench.py is told.
BENCH_VENV ?= .venv-bench
BENCH_ARGS ?=
# Where the Autobahn testsuite is installed, and where it reports.
AUTOBAHN_FOLDER ?= .venv-autobahn

BIN := $(VENV)/bin
WHEELS := $(VENV)/wheels
DEPENDENCIES := $(VENV)/.stamp-dependencies
INSTALLED := $(VENV)/.stamp-installed
BENCH_PEERS := $(BENCH_VENV)/.stamp-peers
BENCH_INSTALLED := $(BENCH_VENV)/.stamp-installed

# What the wheel is made of. README.md is in its metadata.
SOURCES := $(shell find rust meinheld meinheld_worker -type f \
	-not -path '*/__pycache__/*' -not -path '*/target/*' -not -name '*.so' 2>/dev/null) \
	$(wildcard Cargo.toml Cargo.lock pyproject.toml README.md)

.DEFAULT_GOAL := help
.PHONY: help run build test test-rust test-worker test-integration soak bench bench-reload autobahn check-wheel \
	lint format clean fuzz fuzz-seed fuzz-smoke $(FUZZ_TARGETS:%=fuzz-%) $(FUZZ_TARGETS:%=fuzz-smoke-%)
.DELETE_ON_ERROR:

help:
	@echo "make run     serve examples/ on http://127.0.0.1:$(PORT) with the release build"
	@echo "make test    all tests: Rust, tests/, integration/"
	@echo "make fuzz    every fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS); make fuzz-smoke: a few seconds each"
	@echo "make soak    correct and hostile clients, signals and scarcity at once  (SOAK_MINUTES=$(SOAK_MINUTES))"
	@echo "make bench   meinheld beside its peers: results in benchmarks/results  (BENCH_ARGS=--help)"
	@echo "make bench-reload  throughput across three HUPs, beside gunicorn's own workers  (BENCH_ARGS=--help)"
	@echo "make autobahn  the Autobahn fuzzing client against the WebSocket example"
	@echo "make lint    rustfmt, clippy, ruff, mypy"
	@echo "make format  let rustfmt and ruff rewrite what lint would complain about"
	@echo "make clean   remove what the others made"

$(DEPENDENCIES): requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt
	@touch $@

$(INSTALLED): $(DEPENDENCIES) $(SOURCES)
	rm -rf $(WHEELS)
	$(BIN)/maturin build --release --locked --interpreter $(BIN)/python --out $(WHEELS)
	# The version does not change while developing, so pip must be told to replace it.
	$(BIN)/python -m pip uninstall --quiet --yes meinheld
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(WHEELS)/*.whl
	@touch $@

build: $(INSTALLED)

# Started inside examples/: gunicorn puts its directory on sys.path, and reads
# gunicorn.conf.py there. `exec`, so that Ctrl-C reaches gunicorn alone.
run: $(INSTALLED)
	@echo "open http://127.0.0.1:$(PORT)"
	@cd examples && PORT=$(PORT) exec $(abspath $(BIN))/gunicorn \
		--worker-class=egg:meinheld#gunicorn_worker flask_app:app

test: test-rust test-worker test-integration

test-rust:
	$(CARGO) $(CARGO_TEST)

test-worker: $(INSTALLED)
	@set -ex; for threads in $(WAYS); do \
		MEINHELD_TEST_THREADS=$$threads $(PYTEST) tests --numprocesses $(AT_ONCE) $(PYTEST_ARGS); done

test-integration: $(INSTALLED)
	@set -ex; for threads in $(WAYS); do \
		MEINHELD_TEST_THREADS=$$threads $(PYTEST) integration $(PYTEST_ARGS); done

fuzz-seed:
	$(PYTHON) fuzz/seed.py
	mkdir -p $(FUZZ_TARGETS:%=fuzz/artifacts/%) $(FUZZ_TARGETS:%=fuzz/found/%)

# For long runs, on what earlier ones have learned. RUSTC_BOOTSTRAP lets the stable compiler have its sanitizers.
fuzz: $(FUZZ_TARGETS:%=fuzz-%)
$(FUZZ_TARGETS:%=fuzz-%): fuzz-%: fuzz-seed
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer $(FUZZ_SANITIZER) --target-dir fuzz/target/sanitized $* \
		fuzz/corpus/$* fuzz/found/$* -- $(FUZZ_ARGS) -dict=fuzz/http.dict -max_total_time=$(FUZZ_SECONDS)

# For every change: without cargo-fuzz, whose other flags are in fuzz/.cargo/config.toml. The seed is fixed and what
# is learned is thrown away: libFuzzer still looks at its clock, but what it finds fails every time.
fuzz-smoke: $(FUZZ_TARGETS:%=fuzz-smoke-%)
$(FUZZ_TARGETS:%=fuzz-smoke-%): fuzz-smoke-%: fuzz-seed
	rm -rf fuzz/target/learned/$* && mkdir -p fuzz/target/learned/$*
	cd fuzz && $(CARGO) run --quiet --release --locked --bin $* -- \
		$(FUZZ_ARGS) -dict=http.dict -runs=$(FUZZ_RUNS) -seed=1 -verbosity=0 \
		-artifact_prefix=artifacts/$*/ target/learned/$* corpus/$* found/$*

soak: $(INSTALLED)
	PYTHONPATH=integration:tests $(BIN)/python -m soak --minutes $(SOAK_MINUTES) $(SOAK_ARGS)

$(BENCH_PEERS): benchmarks/install.py benchmarks/requirements-peers.txt
	$(PYTHON) benchmarks/install.py $(BENCH_VENV)
	@touch $@

$(BENCH_INSTALLED): $(BENCH_PEERS) $(INSTALLED)
	$(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
		$(WHEELS)/*.whl
	@touch $@

# The ceilings are built with the whole workspace, so that they get the features that the wheel has.
bench: $(BENCH_INSTALLED)
	$(CARGO) build --quiet --release --locked --workspace --examples
	$(BENCH_VENV)/bin/python benchmarks/bench.py $(BENCH_ARGS)

bench-reload: $(BENCH_INSTALLED)
	$(BENCH_VENV)/bin/python benchmarks/reload.py $(BENCH_ARGS)

# All of RFC 6455, in half a minute; the client needs a Python 2.7 (AUTOBAHN_PYTHON).
autobahn: $(INSTALLED)
	PYTHONPATH=integration:tests $(BIN)/python integration/autobahn_suite.py $(AUTOBAHN_FOLDER)

# What users get: both packages, the stubs, and httparse with its SIMD.
check-wheel: $(INSTALLED)
	$(BIN)/python .ci/check_wheel.py $(WHEELS)/*.whl
	$(CARGO) tree --locked --package meinheld-wsgi --edges features,normal --invert httparse \
		| grep --quiet 'httparse feature "std"'

# mypy takes tests/ and integration/ one at a time: their modules are top-level ones.
lint: $(INSTALLED)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- --deny warnings
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy meinheld meinheld_worker
	$(BIN)/stubtest meinheld_worker._core --allowlist .ci/stubtest-allowlist --mypy-config-file pyproject.toml
	MYPYPATH=tests $(BIN)/mypy --explicit-package-bases tests
	MYPYPATH=tests:integration $(BIN)/mypy --explicit-package-bases integration conftest.py
	MYPYPATH=tests:benchmarks $(BIN)/mypy --explicit-package-bases benchmarks
	$(BIN)/mypy examples .ci fuzz/seed.py
	cd fuzz && $(CARGO) fmt --check && $(CARGO) clippy --release --locked -- --deny warnings

format: $(DEPENDENCIES)
	$(CARGO) fmt --all
	cd fuzz && $(CARGO) fmt
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	$(CARGO) clean
	rm -rf $(VENV) .venv-* .mypy_cache .pytest_cache .ruff_cache fuzz/target fuzz/corpus fuzz/artifacts
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
