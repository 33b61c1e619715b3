# Each target sets up what it needs, with uv if it is installed, otherwise with venv and pip.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv 2> /dev/null)

# A worker takes one test at a time, or one group of tests that share a pod. Most tests wait: two cores are busy with eight.
TESTS := -q -n 8 --dist loadgroup -m "not openssh and not engine" --ignore=tests/engine
# Tests of the stand-ins for vLLM, GPUs and the Hub, of downloads with the real hf, of the wheel, and of each command in
# a process of its own; and of keys, costs, uploads, checks and purges, each of which starts models of its own.
LAB := tests/demo tests/lab_checks tests/packaging tests/commands/test_fix.py tests/commands/test_new_processes.py \
  tests/commands/test_prompt_batch.py tests/commands/test_bench.py tests/commands/test_up.py tests/commands/test_across.py tests/commands/test_lock.py \
  tests/commands/test_quicker_starts.py tests/commands/test_warm_up.py tests/commands/test_access.py \
  tests/commands/test_check.py tests/commands/test_costs.py tests/commands/test_pods_purge.py tests/commands/test_uploads.py
# Tests of what goes on for long: logs, downloads, leases, deaths, forwarded ports, and what is shown while a user waits or
# watches.
STREAMS := tests/agent/test_download.py tests/agent/test_logs.py tests/agent/test_leases.py \
  tests/agent/test_deaths.py tests/agent/test_network.py tests/models/test_watch.py \
  tests/commands/test_attach.py tests/commands/test_lease.py \
  tests/commands/test_downloads.py tests/commands/test_top.py tests/commands/test_waiting.py \
  tests/commands/test_signals.py tests/commands/test_stalled.py tests/commands/test_browsers.py \
  tests/commands/test_restarted.py tests/commands/test_held_links.py \
  tests/commands/test_forward.py tests/commands/test_logs.py tests/commands/test_logs_on_a_terminal.py \
  tests/commands/test_logs_over_bad_links.py tests/commands/test_run.py tests/models/test_forwards.py
# `pi gateway` with smg as a real process.
GATEWAY := tests/commands/test_gateway.py
# Plans of the whole catalogue on all kinds of hardware, its updates, kinds of models, and every line after `--vllm`.
PLANS := tests/planning/test_plans_of_the_catalogue.py tests/commands/test_abilities.py tests/commands/test_arguments.py \
  tests/commands/test_kinds.py tests/commands/test_models_update.py tests/commands/test_servable.py \
  tests/commands/test_vllm_arguments.py
# Tests of the setup script, on machines whose apt, uv and nvidia-smi are small scripts.
SETUP := tests/remote tests/commands/test_setup.py
# A test that runs mypy once more.
TYPOS := tests/test_protocol_typos.py
# Tests of what runs on a pod, which has the standard library only, of pages, and of what mypy reports.
WITHOUT_DEPENDENCIES := tests/remote tests/agent tests/docs $(TYPOS)
# Those, and what takes long and uses no more of the dependencies than the others do.
NOT_LOWEST := $(WITHOUT_DEPENDENCIES) $(GATEWAY) tests/clients tests/commands/test_up.py \
  tests/commands/test_across.py tests/commands/test_lock.py tests/commands/test_lease.py tests/commands/test_fix.py \
  tests/commands/test_bench.py tests/commands/test_quicker_starts.py tests/commands/test_warm_up.py \
  tests/commands/test_setup.py tests/lab_checks tests/packaging $(filter-out tests/commands/test_models_update.py,$(PLANS)) \
  tests/hostile tests/commands/test_access.py tests/commands/test_check.py tests/commands/test_costs.py \
  tests/commands/test_pods_purge.py tests/commands/test_uploads.py tests/commands/test_downloads.py \
  tests/commands/test_stalled.py tests/commands/test_browsers.py tests/commands/test_restarted.py \
  tests/commands/test_logs_over_bad_links.py tests/commands/test_run.py tests/commands/test_attach.py
# What other targets run.
NOT_DEFAULT := $(LAB) $(STREAMS) $(GATEWAY) $(PLANS) $(SETUP) $(TYPOS) tests/hostile tests/openssh tests/clients
# The inner loop: tests that compute, without the few that need an embedded pod, wait for reconnects, or plan for ten seconds.
QUICK := tests/test_architecture.py tests/test_doctests.py tests/test_imports.py tests/test_safe.py tests/docs \
  tests/hold tests/hub tests/vllm tests/planning tests/diagnosis tests/models tests/store tests/pods tests/ssh tests/view tests/chat
NOT_QUICK := tests/planning/test_plans_of_the_catalogue.py tests/models/test_forwards.py tests/ssh/test_login.py \
  tests/ssh/test_passphrase_on_a_terminal.py tests/view/test_listing.py
# Python may keep its bytecode: the tests start it thousands of times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo quick test check format test-lab test-gateway test-streams test-plans test-setup test-hostile test-openssh test-kills test-engine test-clients test-lowest bench bench-once bench-setup bench-first-start docs picture lock release clean

help:
	@echo "make demo          see pi at work on a pod inside this machine"
	@echo "make quick         the inner loop: the tests that need no pod (40 seconds on 2 cores)"
	@echo "make test          run the default tests (no root, no GPU; under 3 minutes on 2 cores)"
	@echo "make check         ruff, mypy --strict, shellcheck, and that mypy finds typos in the protocol with pods"
	@echo "make format        let ruff format the code and fix what it can"
	@echo "make test-lab      tests of the stand-ins for vLLM, GPUs and the Hub, of downloads with the real hf, and of the wheel"
	@echo "make test-gateway  pi gateway with smg as a real process: replicas stopped, killed, cut off and hanging"
	@echo "make test-streams  tests of logs, downloads and forwarded ports, over good and bad connections"
	@echo "make test-plans    plans of the whole catalogue, its updates, kinds of models, and every line after --vllm"
	@echo "make test-setup    tests of the setup script, on machines whose apt, uv and nvidia-smi are small scripts"
	@echo "make test-hostile  every hostile value in every field of what a pod sends, and thieves of ports (4 minutes)"
	@echo "make test-openssh  tests on real sshd in bare Debian roots (root; installs debootstrap)"
	@echo "make test-kills    200 starts during which pi is killed at random, 100 interrupted (root; 15 minutes)"
	@echo "make test-engine   tests with a real vLLM on CPU (root; installs several GB)"
	@echo "make test-clients  Claude Code, Codex, opencode, aider and llm under pi run, in a network of their own (root, node; PI_CLIENTS=all: more)"
	@echo "make test-lowest   the tests that use dependencies, with the oldest supported ones"
	@echo "make bench         measure every figure of docs/performance.md here, as two tables (root; 35 minutes)"
	@echo "make bench-once    each benchmark once, to see that it works; judges nothing (root)"
	@echo "make bench-first-start   a first start that compiles during the download, compared with one after the other (root; 12 minutes)"
	@echo "make bench-setup   pi pods setup compared with the same steps typed by hand (root; 8 minutes)"
	@echo "make docs          write docs/cli.md from the commands' help"
	@echo "make picture       record the quick start again: docs/picture.svg, and what README.md shows"
	@echo "make lock          resolve the dependencies again and write requirements.lock"
	@echo "make release       build, test and tag the version at the top of CHANGELOG.md; pushes and uploads nothing"
	@echo "make clean         remove the environments, caches and builds"

demo: $(READY)
	$(BIN)/pi demo

quick: $(READY)
	$(BIN)/python -m pytest -q -n 3 --dist worksteal $(QUICK) $(NOT_QUICK:%=--ignore=%)

test: $(READY)
	$(BIN)/python -m pytest $(TESTS) $(NOT_DEFAULT:%=--ignore=%)

check: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/shellcheck --severity=style --check-sourced $$(grep -rlIE '^#!(/usr/bin/env |/bin/)(ba)?sh$$' .ci pi_cli remote tests)
	$(BIN)/python -m pytest -q $(TYPOS)
	@echo "check: all clean"

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

test-lab: $(READY)
	$(BIN)/python -m pytest $(TESTS) $(LAB)

test-gateway: $(READY)
	$(BIN)/python -m pytest $(TESTS) $(GATEWAY)

test-streams: $(READY)
	$(BIN)/python -m pytest $(TESTS) $(STREAMS)

test-plans: $(READY)
	$(BIN)/python -m pytest $(TESTS) $(PLANS)

test-setup: $(READY)
	$(BIN)/python -m pytest $(TESTS) $(SETUP)

test-hostile: $(READY)
	PI_HOSTILE=all $(BIN)/python -m pytest -q -n 2 --maxschedchunk 1 tests/hostile

test-openssh: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	$(BIN)/python -m pytest -q -n 3 --dist loadgroup tests/openssh

test-kills: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	PI_KILLS=200 $(BIN)/python -m pytest -q -s -m openssh tests/openssh/test_killed_at_any_moment.py

test-engine: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m engine tests/engine

test-clients: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	bash tests/clients/install.sh
	PI_OWN_NETWORK=1 unshare --net --mount $(BIN)/python -m pytest -q tests/clients

test-lowest: $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-lowest
	$(BIN)/uv pip install --quiet --compile-bytecode --python .venv-lowest/bin/python --resolution lowest-direct \
	  -e . --group dev
	.venv-lowest/bin/python -m pytest $(TESTS) $(NOT_LOWEST:%=--ignore=%)

bench: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	$(BIN)/python -m tests.bench

# Each benchmark once, to see that it works; judges nothing.
bench-once: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	$(BIN)/python -m tests.bench --once

bench-setup: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	$(BIN)/python -m tests.bench.setup_against_hand

bench-first-start: $(READY)
	sh -c 'test "$$(id -u)" != 0 || bash tests/lab/install.sh'
	$(BIN)/python -m tests.bench.first_start

docs: $(READY)
	$(BIN)/python -m tests.docs.cli_page > docs/cli.md
	$(BIN)/python -m tests.docs.pasted_page > docs/pasted.md

picture: $(READY)
	$(BIN)/python -m tests.docs.picture

lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	  --python-version 3.11 --group dev pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --python-version 3.11 --group gateway --output-file pi_cli/gateway/requirements.txt

release: $(READY)
	$(BIN)/python -m tests.packaging.release

$(READY): pyproject.toml requirements.lock
ifdef UV
	$(UV) venv --quiet --clear --python '>=3.11' $(VENV)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
else
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
endif
	touch $(READY)

clean:
	rm -rf $(VENV) .venv-lowest dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
