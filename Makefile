# Every command of this house. `make` alone lists them.

PYTHON ?= python3
# Local versions (torch 2.13.0+cpu) are not on the index, so the pin has none.
TORCH := torch==2.13.0
# Programs that tests run and pip cannot bring, as program=debian-package.
TOOLS := redis-server=redis-server redis-cli=redis-tools rclone=rclone kubectl=kubernetes-client faketime=faketime prometheus=prometheus promtool=prometheus prometheus-alertmanager=prometheus-alertmanager amtool=prometheus-alertmanager chromium=chromium

# In an environment of its own, for `make chart-test` alone: 250 MB that nothing else needs.
CHECKOV := 3.3.30
# Groovy, with which tests run the Jenkinsfile.
GROOVY := npm-groovy-lint@18.0.0

BIN := .venv/bin
PACKAGES := alerts gateway gleaner jobs worker
INSTALLED := .venv/.installed
UNPACKED := .tools/.unpacked

# Without its cache, which containers like to turn off, each of a thousand processes would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup tools demo up test fast lint style format types imports bandit secrets pytest unit coverage integration models faults security attacks fuzz shown ship chaos contract bigjob million soak alerts pictures gameday docs site screenshots bench bench-cluster \
  constraints locks clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv with all dependencies; instant if nothing changed

# Python compiles what is imported, once; pip would compile all 23,000 modules, one after the other.
$(INSTALLED): pyproject.toml service/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Gleaner needs Python 3.11 or newer: make PYTHON=python3.x")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo 'Installing into .venv (a minute or two the first time)'
	@$(BIN)/pip install -qq --no-compile --disable-pip-version-check -c constraints.txt -e ./service -e '.[dev]'
	@touch $@

tools: $(UNPACKED) ## Unpack the programs that some tests need into .tools/

$(UNPACKED): Makefile scripts/tools.sh
	@scripts/tools.sh .tools $(TOOLS)
	@npm install --silent --ignore-scripts --no-audit --no-fund --prefix .tools/groovy $(GROOVY) || echo 'tools: no npm; Groovy left out' >&2
	@touch $@

demo: setup ## Start everything, extract entities from sample texts, stop
	@$(BIN)/gleaner demo

up: setup ## Start the local stack; Ctrl-C stops it
	@$(BIN)/gleaner up

# Three at a time on two cores, the longest first: half of the time they wait for servers and processes. OpenMP's
# threads must not spin meanwhile: the model's tests took twice as much of the cores.
test: setup tools ## Every check and every test; tests that measure run last and alone
	@OMP_WAIT_POLICY=passive $(MAKE) --no-print-directory --jobs 3 --output-sync=target UNIT="$(addprefix --ignore=,$(PURE))" \
	  INTEGRATION=--ignore=tests/integration/model integration models ship shown unit faults security coverage fast
	@$(MAKE) --no-print-directory attacks

fast: lint types imports bandit secrets ## Only the static checks

lint: setup ## Style and docstrings (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

style: setup ## Print how the code reads: names, docstrings, sizes
	$(BIN)/python -m scripts.style

format: setup ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup ## mypy: strict, but in tests and benchmarks names and calls alone
	$(BIN)/mypy

imports: setup ## Import rules between packages (import-linter)
	$(BIN)/lint-imports --no-logo

bandit: setup ## Security lint
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive $(PACKAGES)

secrets: setup ## Find secrets in tracked files; exceptions are marked on their line
	git ls-files -z ':!locks/*.txt' ':!models/*/tokenizer.json' | xargs -0 $(BIN)/detect-secrets-hook --no-verify --baseline .secrets.baseline

pytest: unit integration faults security attacks shown ## All tests except those of ship

unit: setup tools ## The tests of repo and unit, which may run in parallel with other work
	$(BIN)/python -m pytest tests/repo tests/unit $(UNIT)

# The files that cover the pure modules, but not those that measure time, which tracing would slow down.
PURE := $(filter-out %/test_bounds.py,$(wildcard tests/unit/worker/text/test_*.py)) \
  tests/unit/worker/text/prompts tests/unit/worker/shards \
  tests/unit/worker/batching/test_policy.py tests/unit/worker/model/test_decode.py \
  tests/unit/worker/model/test_splitters.py tests/unit/gateway/reading tests/unit/gateway/submission \
  tests/unit/gateway/webhooks/test_schedule.py tests/unit/gateway/webhooks/test_signing.py \
  $(patsubst %,tests/unit/jobs/test_%.py,cells codec cost lines routing shards)

coverage: setup tools ## Branch coverage of the pure modules, at least 95 %
	$(BIN)/python -m pytest $(PURE) --cov --cov-report=term

integration: setup tools ## The tests of the whole service; starts servers, as `faults` does
	$(BIN)/python -m pytest tests/integration $(INTEGRATION)

models: setup tools ## The integration tests of models and runtimes alone
	$(BIN)/python -m pytest tests/integration/model

faults: setup tools ## The tests that kill, stop and starve every process
	$(BIN)/python -m pytest tests/faults

fuzz: setup ## Fuzz every parser of external input for a minute, as `security` does, or FUZZ_S seconds; FUZZ_SEED=n
	FUZZ_S=$${FUZZ_S:-60} $(BIN)/python -m tests.fuzz $(FUZZ)

security: setup tools ## The attacks of one hostile tenant that must be refused
	$(BIN)/python -m pytest tests/security -m "not alone"

attacks: setup tools ## Tests that measure: an attack's effect on other tenants, looks at metrics; ATTACK_S=n for the mix
	$(BIN)/python -m pytest tests/security tests/operations/test_truth.py -m alone

shown: setup tools ## The tests of console and operations, which observe a running service
	$(BIN)/python -m pytest tests/console tests/operations -m "not alone"

ship: setup tools ## The tests of chart, KEDA, images and pipelines, in a separate process
	$(BIN)/python -m pytest tests/ship -m "not slow"

chaos: setup tools ## Every fault many times: 20 minutes and more, CHAOS_SEED=n
	CHAOS=1 $(BIN)/python -m pytest tests/faults --timeout 1800

contract: setup ## The API against its OpenAPI document, thousands of cases: 4 minutes, SCHEMA_S=n
	SCHEMA_S=$${SCHEMA_S:-240} $(BIN)/python -m pytest tests/integration/api/test_api_contract.py -s

bigjob: setup ## A job of 256 MiB through the gateway, with its memory monitored
	UPLOAD_MIB=256 $(BIN)/python -m pytest tests/integration/gateway/test_api_scale.py -k big_job -s

million: setup ## A million documents through `gleaner extract`, killed ten times: 10 minutes, DOCUMENTS=n
	DOCUMENTS=$${DOCUMENTS:-1000000} $(BIN)/python -m pytest tests/integration/client/test_cli_resume.py -s

soak: setup ## Steady work for an hour, or SOAK_S seconds; fails if memory or handles grow
	$(BIN)/python -m tests.faults.soak

alerts: setup ## Generate alerts/rules, alerts/tests and alerts/dashboards from the code
	$(BIN)/python -m alerts

pictures: setup tools ## Draw docs/pictures from two minutes of a running service
	$(BIN)/python -m tests.operations.pictures

gameday: setup tools ## Inject six faults and report which alerts fire and how soon; 5 minutes
	$(BIN)/python -m tests.operations.gameday

chart-test: setup tools ## Test chart, KEDA, images and pipelines; checkov on every overlay
	$(BIN)/python -m pytest tests/ship
	@test -x .cache/checkov/bin/checkov || ($(PYTHON) -m venv .cache/checkov && .cache/checkov/bin/pip install -qq checkov==$(CHECKOV))
	$(BIN)/python -m scripts.render .cache/rendered
	.cache/checkov/bin/checkov --directory .cache/rendered --framework kubernetes --config-file charts/checkov.yaml
	.cache/checkov/bin/checkov --file Dockerfile.gateway Dockerfile.worker --framework dockerfile --config-file charts/checkov.yaml

bench-cluster: setup tools ## A release's life and drills as local processes, then every rendering: 8 minutes
	$(BIN)/python -m pytest tests/ship/bench
	$(BIN)/python -m tests.ship.bench --run

chart-sync: setup ## Generate the files derived from the chart: schema, README, keda/, its copies of alerts/
	$(BIN)/python -m scripts.chart

images-test: setup ## Build both images without Docker and run a job with them (root; buildah, mmdebstrap)
	$(BIN)/python -m pytest tests/ship/test_images.py -m slow
	$(BIN)/python -m scripts.images_test

docs: setup ## Generate docs/reference/settings.md, docs/reference/errors.md and the chart's schema
	$(BIN)/python -m docs.generate
	$(BIN)/python -m scripts.chart

site: setup ## Build the docs site into .cache/site/html; fails on a dead link
	$(BIN)/python -m docs.site

screenshots: setup tools ## Take the screenshots in docs/pictures/console
	$(BIN)/python -m tests.console.pictures

bench: setup ## Gleaner, gliner and peers on the same texts, F1, scale: 15 minutes; BENCH=--quick: three minutes
	$(BIN)/python -m benchmarks $(BENCH)

constraints: ## Pin every dependency at its newest allowed version
	rm -rf .cache/pin && mkdir -p .cache && $(PYTHON) -m venv .cache/pin
	echo '$(TORCH)' > .cache/pin/torch.txt
	.cache/pin/bin/pip install -qq --disable-pip-version-check -c .cache/pin/torch.txt -e ./service -e '.[dev]'
	(echo '# Written by `make constraints`: what `make setup` installs.'; \
	  .cache/pin/bin/pip freeze --exclude-editable --exclude pip --exclude setuptools | sed 's/+[a-z0-9.]*$$//') > constraints.txt
	rm -rf .cache/pin
	$(MAKE) locks

locks: ## Pin the images' packages by hash, at the versions of constraints.txt
	rm -rf .cache/uv && mkdir -p .cache && $(PYTHON) -m venv .cache/uv
	.cache/uv/bin/pip install -qq --disable-pip-version-check uv
	$(PYTHON) -m scripts.locks .cache/uv/bin/uv
	rm -rf .cache/uv

clean: ## Remove generated files, including .venv and .tools
	rm -rf .venv .tools .cache dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
