# Every habit of the project; `make help` lists them. Each is a thin face on `python -m apps ...`.
PYTHON ?= python3

# Given on the command line only (make train APP=timeseries): the environment is not read.
APP =
CONFIG = default
RUN =
INPUT =
TARGET =
IRF =
OUT =
HORIZON =
SPLIT =
PROFILE = quick
JOBS = 2
RESUME =
NAME =
ARGS =

python := .venv/bin/python
ready := .venv/.ready
peers := .venv/.peers
apps := $(patsubst apps/%/data.py,%,$(wildcard apps/*/data.py))
option = $(if $($(2)),--$(1) '$($(2))')

# Gradients of many experts are large tensors: on large pages they do not spend their time in page faults.
export THP_MEM_ALLOC_ENABLE ?= 1
# Threads that wait for one another sleep: beside other work, spinning makes training many times slower.
export OMP_WAIT_POLICY ?= PASSIVE

.NOTPARALLEL:
.PHONY: help setup peers list train evaluate predict compare data new-app test lint bench docs lock clean \
        named-app named-input named-name
.DEFAULT_GOAL := help

help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "make %-9s %s\n", $$1, $$2}' Makefile
	@echo "Long options pass through: ARGS=\"--trainer.max_epochs 3\".  Apps: $(apps)"

setup: $(ready) ## Make .venv from the lock (every command does so when needed)

$(ready): requirements.lock core/pyproject.toml
	@PYTHON='$(PYTHON)' tools/setup.sh
	@touch $@

peers: $(peers) ## Add the peers of comparisons to .venv (0.5 GB; compare and test do so when needed)

$(peers): $(ready) requirements-peers.lock
	@VIRTUAL_ENV=.venv .venv/bin/uv pip install --quiet --require-hashes -r requirements-peers.lock
	@touch $@

list: $(ready) ## List the apps and their configs
	@$(python) -m apps list

go_on = $(strip $(if $(RESUME),--resume) $(call option,run,RUN))
train: named-app $(ready) ## Train an app: APP= [CONFIG=default] [RESUME=1] [RUN=runs/... to go on with] [ARGS=]
	$(python) -m apps $(APP) fit --config configs/$(APP)/$(CONFIG).yaml $(go_on) $(ARGS)

evaluate: named-app $(ready) ## Measure a trained run: APP= [RUN=runs/...] [SPLIT=validation] [ARGS=]
	$(python) -m apps $(APP) evaluate $(call option,run,RUN) $(call option,split,SPLIT) $(ARGS)

wanted = $(strip $(call option,target,TARGET) $(call option,irf,IRF) $(call option,out,OUT) $(call option,horizon,HORIZON) $(call option,run,RUN))
predict: named-app named-input $(ready) ## Predict for your own file: APP= INPUT= [TARGET=] [IRF=] [OUT=] [HORIZON=] [RUN=] [ARGS=]
	$(python) -m apps $(APP) predict --input '$(INPUT)' $(wanted) $(ARGS)

compare: named-app $(peers) ## Routed against its controls and peers: APP= [PROFILE=quick] [JOBS=2] [ARGS=]
	$(python) -m apps $(APP) compare --profile $(PROFILE) --jobs $(JOBS) $(ARGS)

data: named-app $(ready) ## Download an app's public data: APP= [NAME=]
	$(python) -m apps $(APP) data $(call option,name,NAME) $(ARGS)

new-app: named-name $(ready) ## Start a new app that already trains: NAME=
	$(python) -m apps new-app '$(NAME)'

test: $(peers) ## Run the test suite: [JOBS=2] [ARGS=tests/core], with coverage ARGS=--cov
	OMP_NUM_THREADS=1 $(python) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

lint: $(ready) ## Check style and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

bench: $(if $(APP),$(peers),.venv-bench/.ready) ## Time the MoE layer against its peers, or an app against its own: [APP=] [ARGS=]
	$(if $(APP),$(python) -m benchmarks.$(APP),.venv-bench/bin/python -m benchmarks.moe_layer) $(ARGS)

.venv-bench/.ready: $(ready) requirements-bench.lock
	@.venv/bin/uv venv --quiet --allow-existing --python $(python) .venv-bench
	@VIRTUAL_ENV=.venv-bench .venv/bin/uv pip install --require-hashes -r requirements-bench.lock
	@VIRTUAL_ENV=.venv-bench .venv/bin/uv pip install --quiet --no-deps --no-build-isolation -e core
	@touch $@

docs: $(ready) ## Build the documentation site into site/
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet
	@echo "open site/index.html"

compile = .venv/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate --quiet --extra timeseries --extra drift --extra lidar \
	--extra recsys --extra pointcloud --extra dev
lock: $(ready) ## Recompile the locks from pyproject.toml: [ARGS=--upgrade]
	$(compile) --extra docs -o requirements.lock $(ARGS)
	$(compile) --extra peers -c requirements.lock -o requirements-peers.lock $(ARGS)
	$(compile) --extra bench -c requirements.lock -o requirements-bench.lock $(ARGS)

clean: ## Remove what the tools left; runs, data and .venv stay
	rm -rf site .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	find apps core tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

named-app:
	@$(if $(filter $(APP),$(apps)),:,echo "error: $(if $(APP),there is no app '$(APP)',no app is given): say APP=<name>, one of: $(apps)" >&2; exit 2)

named-input:
	@$(if $(INPUT),:,echo "error: say which file to predict for: INPUT=<file>" >&2; exit 2)

named-name:
	@$(if $(NAME),:,echo "error: say how the new app is called: NAME=<name>" >&2; exit 2)
