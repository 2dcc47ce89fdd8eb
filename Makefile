# The front door. It needs make and Python 3.11 or newer; all else goes into .venv, as uv.lock pins it.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
UV := $(shell sed -n 's/^ *"\(uv==[^"]*\)".*/\1/p' pyproject.toml)

PROTOS := $(wildcard protos/sessionplane/v1/*.proto)
PROTOSET := protos/sessionplane.protoset
STUBS := service/sessionplane/v1
FRESH := $(VENV)/generated

# Further arguments for the command behind serve, demo, selftest, test, test-slow, bench, bench-growth and liveness.
ARGS ?=

SOAK_MINUTES ?= 30

# uv works in this .venv, whatever the caller's shell says; its own 30 s are short behind a slow mirror.
export UV_PROJECT_ENVIRONMENT := $(VENV)
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 180
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Containers often keep Python from writing bytecode; compiling everything anew doubles what each start of a server costs.
unexport PYTHONDONTWRITEBYTECODE
# The system's certificates, where there are any, know a company's proxy as well; uv's own list does not.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt),)
export UV_SYSTEM_CERTS ?= true
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install serve demo selftest test prove test-slow soak lint format proto proto-check fresh-proto docs bench bench-growth liveness image clean

help:  ## List the targets (this list).
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

install: $(STAMP)  ## Make .venv with everything in it. PYTHON=... chooses the interpreter.

# The stamp holds the folder it was made in: the scripts of a virtual environment do not survive a move.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

$(STAMP): pyproject.toml uv.lock
	@if test -e $@ && test "$$(cat $@)" != '$(CURDIR)'; then rm -rf $(VENV); fi
	@if ! $(BIN)/python -c '' 2>/dev/null; then \
		for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3); do \
			if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
		done; \
		test -n "$$found" || { echo 'Python 3.11 or newer was not found. Install it, or name it: make install PYTHON=/path/to/python3' >&2; exit 1; }; \
		echo "Making $(VENV) with $$("$$found" --version)"; \
		"$$found" -m venv --clear $(VENV) || { echo 'This Python cannot make virtual environments. On Debian and Ubuntu: apt install python3-venv' >&2; exit 1; }; \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet '$(UV)'
	$(BIN)/uv sync --quiet --locked --all-extras --compile-bytecode --python $(BIN)/python
	@printf '%s\n' '$(CURDIR)' > $@

serve: install  ## Serve on 127.0.0.1:50051 over ./sessionplane.db. ARGS=... adds options.
	$(BIN)/sessionplane serve $(ARGS)

demo: install  ## Watch the product work, in this terminal.
	$(BIN)/sessionplane demo $(ARGS)

# Two workers on any machine: the suite starts real servers and keeps two cores busy.
test: install  ## Run the default suite. ARGS=... goes to pytest.
	$(BIN)/python -m pytest -n 2 --dist worksteal $(ARGS)

# The same seeds each time, so what is green once stays green. What cannot run here is named in the verdict.
prove: install  ## Prove the promises: 5,000 simulated worlds, 2,000 power cuts, sixteen planted bugs.
	$(BIN)/sessionplane selftest --only sim --only powercut --sim 5000 --powercut 2000
	$(BIN)/python -m tests.planted

selftest: install  ## Put the promises to the test as any visitor can. ARGS=... adds options.
	$(BIN)/sessionplane selftest $(ARGS)

# Other seeds each time; what is found is printed as a command that shows it again.
soak: install  ## Run what takes long, slow tests and new seeds, for SOAK_MINUTES (30).
	$(BIN)/python -m tests.soak $(SOAK_MINUTES)

# One at a time: these measure, kill processes and fill disks.
test-slow: install  ## Run the tests that are marked slow.
	$(BIN)/python -m pytest -m slow --timeout 900 $(ARGS)

lint: install proto-check  ## Check format, rules, types, imports, protos and everything generated.
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/python -m docs.generate --check

format: install  ## Format the code and fix what ruff can fix.
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

proto: fresh-proto  ## Generate the Python stubs and the protoset from protos/.
	find $(STUBS) -name '*_pb2*' -delete
	cp $(FRESH)/$(STUBS)/* $(STUBS)
	cp $(FRESH)/$(PROTOSET) $(PROTOSET)

proto-check: fresh-proto  ## Check that the stubs and the protoset match protos/.
	@diff -r -x __init__.py -x __pycache__ $(STUBS) $(FRESH)/$(STUBS) && cmp $(PROTOSET) $(FRESH)/$(PROTOSET) \
		|| { echo 'What is generated does not match protos/. Run: make proto' >&2; exit 1; }

# Only *_service.proto holds services, so only those get gRPC stubs. The protoset carries the comments,
# so that `grpcurl -protoset ... describe` shows them.
fresh-proto: install
	@rm -rf $(FRESH) && mkdir -p $(FRESH)/service $(FRESH)/protos
	@$(BIN)/python -m grpc_tools.protoc -I protos --plugin=$(BIN)/protoc-gen-mypy \
		--python_out=$(FRESH)/service --mypy_out=quiet:$(FRESH)/service \
		--include_imports --include_source_info --descriptor_set_out=$(FRESH)/$(PROTOSET) $(PROTOS)
	@$(BIN)/python -m grpc_tools.protoc -I protos --plugin=$(BIN)/protoc-gen-mypy_grpc \
		--grpc_python_out=$(FRESH)/service --mypy_grpc_out=quiet:$(FRESH)/service $(filter %_service.proto,$(PROTOS))

docs: install  ## Write the generated sections of docs/.
	$(BIN)/python -m docs.generate

bench: install  ## Measure, floor beside result, in under two minutes.
	$(BIN)/python benchmarks/run.py $(ARGS)

# Left out of `bench`: it writes a file of several gigabytes first.
bench-growth: install  ## Measure whether cost grows with the file: ten minutes and 5 GB in /tmp, or ARGS=--quick.
	$(BIN)/python benchmarks/growth.py $(ARGS)

# By itself and on a quiet machine: what else runs is in every figure.
liveness: install  ## Measure the promised bounds of time, bound beside measured, in four minutes.
	$(BIN)/python -m sessionplane.proof.liveness $(ARGS)

image:  ## Build the container image sessionplane:dev.
	docker build --tag sessionplane:dev .

clean:  ## Remove .venv, caches and builds. Databases stay.
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
