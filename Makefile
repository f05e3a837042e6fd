PYTHON  ?= python3
NOW     := $(shell date +%Y%m%d-%H%M%S)
FIGURES := loss_manifold global_best_response local_best_response large medium deeper_networks \
  weights_versus_loss hypernet_capacity
COMPARISONS := tuned_regularization self_tuning does_it_pay hyper_regularization hyper_cleaning \
  unrolled_comparison unrolled_response hypergradient_fidelity network_fidelity layer_fidelity \
  search_baselines distillation
WORLDS := games gan stackelberg_prediction elastic_net sparse_group_lasso maml character_model \
  overfit_validation every_method
HYPERNETS := hypernet_start best_response_error hypernetwork_mnist chunked_hypernet smash \
  uncertain_response exploration

DATA         ?= mnist_5k
DEMO_FLAGS   ?=
FIGURE_FLAGS ?=
BENCH_FLAGS  ?=
# A process for each core; what a file's tests share is made once, in one of them. Files go in the
# order of tests/conftest.py, for by number of tests the longest would come last and alone.
PYTEST_FLAGS ?= -n auto --dist loadfile --no-loadscope-reorder

ifdef QUICK
DATA := quick
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: demo test newest lint types site notebooks dist figures comparisons worlds hypernets bench bench-check help clean

demo: WORKDIR ?= runs/demo-$(NOW)
demo: .venv/.experiments  ## Tune hyperparameters on a small MNIST and draw the result (a few minutes).
	for name in local_best_response tuned_regularization; do \
	  .venv/bin/python -m experiments.$$name --config=configs/$$name.py \
	    --workdir=$(WORKDIR)/$$name $(DEMO_FLAGS) || exit; \
	done

test: lint types  ## Lint, check types, run the tests.
	.venv/bin/python -m pytest $(PYTEST_FLAGS)

# What touches JAX, Flax, optax and Orbax most, and compiles least: fully optimized, as users do,
# where the rest of the tests compiles in haste.
NEWEST_TESTS := tests/_internal tests/hypernets tests/hypergradients tests/hypertraining tests/fitting/test_driver.py \
  tests/test_problem.py tests/test_inner_loop.py tests/test_hyperparameters.py tests/test_penalties.py

newest:  ## Run some tests with the newest releases that setup.cfg allows (PYTHON=python3.13).
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python -m pip install -qq --disable-pip-version-check --no-compile --editable '.[dev]'
	XLA_FLAGS= .venv-newest/bin/python -m pytest $(PYTEST_FLAGS) $(NEWEST_TESTS)

lint: .venv/.dev  ## Run ruff.
	.venv/bin/ruff check .

types: .venv/.dev  ## Run basedpyright.
	.venv/bin/basedpyright

# A broken link or anchor is a warning to MkDocs, and with --strict an error. With --quiet too it is
# neither.
site: .venv/.dev  ## Build the documentation in build/site.
	NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml

# The links of a page lead out of the folder that its notebook lies in.
NOTEBOOKS := quickstart flax_model
notebooks: .venv/.notebooks  ## Run the pages that are notebooks too, and write those with their outputs.
	for page in $(NOTEBOOKS); do \
	  sed -E 's#\]\(([a-z_]+\.md)#](../\1#g' docs/$$page.md | .venv/bin/python -m jupytext \
	    --from md --to ipynb --set-kernel python3 --output docs/notebooks/$$page.ipynb && \
	  .venv/bin/jupyter-execute --inplace docs/notebooks/$$page.ipynb || exit; \
	done

dist: .venv/.dev  ## Build what would be published, in dist/.
	.venv/bin/python -m build --no-isolation

figures: NAMES := $(FIGURES)  ## Redraw the paper's figures (DATA=mnist: at full size; QUICK=1: as a test).
comparisons: NAMES := $(COMPARISONS)  ## Draw what other tuning methods cost and reach, likewise.
worlds: NAMES := $(WORLDS)  ## Draw games and other problems of two levels beside their exact answers, likewise.
hypernets: NAMES := $(HYPERNETS)  ## Draw what other kinds of hypernets are worth, likewise.
worlds: DATA = $(if $(QUICK),quick,full)
figures comparisons worlds hypernets: WORKDIR ?= runs/$@-$(NOW)
figures comparisons worlds hypernets: .venv/.figures
	status=0; for figure in $(NAMES); do \
	  .venv/bin/python -m experiments.$$figure \
	    --config=configs/$$figure.py$$(test $$figure = loss_manifold || echo :$(DATA)) --workdir=$(WORKDIR)/$$figure $(FIGURE_FLAGS) \
	    || { status=$$?; break; }; \
	done; \
	if [ -d $(WORKDIR) ]; then .venv/bin/python -m experiments.report_page $(WORKDIR) $(NAMES); fi; \
	exit $$status

bench: .venv/.bench  ## Measure speed beside other libraries (installs PyTorch).
	.venv/bin/python -m benchmarks.hyper_training $(BENCH_FLAGS)
	.venv/bin/python -m benchmarks.hypernets
	.venv/bin/python -m benchmarks.hypergradients
	.venv/bin/python -m benchmarks.implicit_peers
	.venv/bin/python -m benchmarks.growth

bench-check: .venv/.bench  ## Compare speed with the last ratios recorded (BENCH_FLAGS=--record: record).
	.venv/bin/python -m benchmarks.check $(BENCH_FLAGS)

help:  ## Show this.
	@echo 'usage: make TARGET [PYTHON=python3.11] [WORKDIR=runs/mine]'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

clean:  ## Remove the environment and caches; results in runs/ stay.
	rm -rf .venv .venv-newest build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "shohypernet needs Python 3.11 or newer, but $(PYTHON) is " + sys.version.split()[0] + ". Name another: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv .venv

# A stamp for each extra of setup.cfg. Those used here all include `experiments`, hence two touches.
# Bytecode is left to the first import: most of what is installed is never imported.
.venv/.%: setup.cfg constraints.txt | .venv/bin/python
	@echo 'Installing shohypernet[$*] into .venv: a minute or two, longer on a slow connection ...'
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-compile \
	  --constraint constraints.txt --editable '.[$*]'
	@touch .venv/.experiments $@
