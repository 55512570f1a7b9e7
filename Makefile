# Everything a developer does, each target complete on a machine that has only Python 3.11+ and make.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
CASE := get-grpc-256
GENERATED := generated
DIST := dist
MAIN := $(shell git rev-parse --verify --quiet origin/main || git rev-parse --verify --quiet main)

# An environment of its own: what generates code for protobuf 6 does not run on 7, which we run on.
GENERATOR := $(VENV)/generator
SITE = $(shell $(GENERATOR)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
PROTOC = PATH="$(CURDIR)/$(GENERATOR)/bin:$$PATH" $(GENERATOR)/bin/python -m grpc_tools.protoc -I protos -I $(SITE)
LOCK = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --upgrade --quiet --custom-compile-command "make lock"

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

install: $(INSTALLED) ## make the virtual environment with exactly the locked packages

$(INSTALLED): requirements.lock pyproject.toml generated/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable generated --editable .
	@touch $@

$(GENERATOR)/.installed: protos/requirements.lock
	$(PYTHON) -m venv $(GENERATOR)
	$(GENERATOR)/bin/pip install --quiet --require-hashes -r protos/requirements.lock
	@touch $@

run: $(INSTALLED) ## run the whole stack on this machine; Ctrl-C stops it
	@exec $(BIN)/python -m sandbox $(ARGS)

test: $(INSTALLED) ## run the tests; ARGS goes to pytest
	$(BIN)/python -m pytest --numprocesses=6 --dist=loadfile $(ARGS) || \
		{ [ $$? -eq 1 ] && echo "Once more, alone:" && $(BIN)/python -m pytest --last-failed --last-failed-no-failures none $(ARGS); }

crash-test: $(INSTALLED) ## kill servers and the database under load, then check every row; ARGS goes to it
	$(BIN)/python -m tests.crash $(ARGS)

restart-test: $(INSTALLED) ## restart servers and Envoy under load, ten times by SIGTERM and ten by SIGKILL
	$(BIN)/python -m pytest tests/test_rolling_restart.py --rounds=10 -s $(ARGS)

bench: $(INSTALLED) ## measure beside bare gRPC and FastAPI; ARGS goes to benchmarks
	@$(BIN)/python -m benchmarks $(ARGS)

profile: $(INSTALLED) ## a flame graph of our server in .bench/; CASE=token-rest-256
	@$(BIN)/python -m benchmarks.profile $(CASE) $(ARGS)

check: $(INSTALLED) ## every check that is not a test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf format --diff --exit-code protos
	$(MAKE) --silent check-contract check-stack

format: $(INSTALLED) ## format Python and protobuf
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

generate: $(GENERATOR)/.installed ## rebuild generated/ from protos/
	@mkdir -p $(GENERATED)/live_sessions/v1
	$(PROTOC) --python_out=$(GENERATED) --pyi_out=$(GENERATED) --grpc_python_out=$(GENERATED) --mypy_grpc_out=quiet:$(GENERATED) \
		$$(cd protos && ls live_sessions/v1/*.proto)
	$(PROTOC) --include_imports --descriptor_set_out=$(GENERATED)/live_sessions.binpb \
		$$(cd protos && ls live_sessions/v1/*.proto) google/rpc/error_details.proto
	cp protos/live_sessions/v1/service_config.json $(GENERATED)/live_sessions/v1/
	touch $(GENERATED)/live_sessions/__init__.py $(GENERATED)/live_sessions/v1/__init__.py $(GENERATED)/live_sessions/py.typed

lock: $(INSTALLED) ## resolve every requirements.lock anew from pyproject.toml
	$(LOCK) pyproject.toml --all-extras --group sandbox --group bench --group dev --no-emit-package live-sessions-client --output-file requirements.lock
	$(LOCK) pyproject.toml --all-extras --constraint requirements.lock --no-emit-package live-sessions-client --output-file deploy/requirements.lock
	$(LOCK) --group generate --output-file protos/requirements.lock

release: $(INSTALLED) ## build what is shipped, the server and the client, with checksums; the same files give the same bytes
	rm -rf $(DIST)
	$(BIN)/python -m hatchling build --directory $(DIST)
	cd generated && $(abspath $(BIN))/python -m hatchling build --target wheel --directory $(abspath $(DIST))
	cd $(DIST) && sha256sum * > SHA256SUMS

.PHONY: help install run test crash-test restart-test bench profile check format generate lock release

# buf reads descriptor sets, so that it needs no second way to find the google/ files.
check-contract: $(INSTALLED) $(GENERATOR)/.installed
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PROTOC) --include_imports --include_source_info --descriptor_set_out=$$scratch/source.binpb $$(cd protos && ls live_sessions/v1/*.proto) && \
	$(BIN)/buf lint $$scratch/source.binpb --config protos/buf.yaml && \
	$(MAKE) --silent generate GENERATED=$$scratch/generated > /dev/null && \
	{ diff -r -x __pycache__ -x pyproject.toml -x README.md $$scratch/generated generated || { echo "generated/ is stale: run make generate"; exit 1; }; } && \
	if [ -n "$(MAIN)" ] && git show $(MAIN):generated/live_sessions.binpb > $$scratch/main.binpb 2> /dev/null; then \
		$(BIN)/buf breaking generated/live_sessions.binpb --against $$scratch/main.binpb --config protos/buf.yaml; \
	else echo "no main branch to compare the contract with"; fi

# Envoy's file is valid; an embedded PostgreSQL that the migrations made is what the tables say.
check-stack: $(INSTALLED)
	@$(BIN)/python -m sandbox.check

.PHONY: check-contract check-stack
