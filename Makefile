# make demo   the whole way on this machine's own documentation, in ten to fifteen minutes
# make test   everything that must hold: lint, types, import rule, tests
# make bench  the speed claims, side by side with peers
# make test-oldest   the quick tests with the oldest releases that pyproject.toml allows
# make fuzz   ten minutes of made-up inputs to readers, recipes, expressions, kernels and encoders
# make sbom   the dependencies: list (CycloneDX), licences, known vulnerabilities, in build/
# make docs   the docs site, in site/
# make dist   source distribution and wheel, installed and used once
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OLDEST := .venv-oldest
RECIPE ?= data/recipes/demo.yaml

.PHONY: demo test test-fast test-oldest lmplz lint bench fuzz sbom docs dist .venv-datatrove .venv-encoders .venv-oldest .venv-sbom pictures clean
.DELETE_ON_ERROR:

demo: $(INSTALLED)
	$(BIN)/mill models pull
	$(BIN)/mill build $(RECIPE)

test: lint
	$(BIN)/mill models pull
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

test-fast: $(INSTALLED)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow" --ignore tests/acceptance

test-oldest: .venv-oldest
	$(OLDEST)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not slow" --ignore tests/acceptance

# An environment of the lower bounds themselves. What they bring with them is the newest that fits.
.venv-oldest: $(OLDEST)/.installed
$(OLDEST)/.installed: pyproject.toml
	$(PYTHON) -m venv --clear $(OLDEST)
	sed -nE -e '/^\[build/,/^$$/d' -e 's/^[^#]*"([A-Za-z0-9_-]+)[>=]=([0-9.]+)[",].*/\1==\2/p' pyproject.toml >$(OLDEST)/bounds.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -r $(OLDEST)/bounds.txt --group test
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# kenlm's own programs, which tests compare our n-gram models with; needs Boost (see .ci/run).
lmplz: $(INSTALLED)
	.ci/kenlm $(BIN)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(INSTALLED) .venv-datatrove .venv-encoders
	$(BIN)/python -m benchmarks

# By coverage where atheris has a wheel for this Python, else at random.
fuzz: $(INSTALLED)
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: --no-deps "atheris==3.0.0"
	$(BIN)/python -m tests.fuzz 600

# pip-audit asks for what is known of vulnerabilities over the network; without one it says so, and the lists are there.
sbom: $(INSTALLED) .venv-sbom
	mkdir -p build
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible -o build/sbom.cdx.json $(BIN)/python
	.venv-sbom/bin/pip-licenses --python $(BIN)/python --format csv --with-urls --output-file build/licences.csv
	-.venv-sbom/bin/pip-audit --path $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_paths()['purelib'])") --progress-spinner off

.venv-sbom: .venv-sbom/.installed
.venv-sbom/.installed:
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python -m pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0 pip-audit==2.10.1 pip-licenses==5.5.5
	touch $@

# The peer of the curation benchmarks, in an environment of its own: the requirements of both do not go together.
.venv-datatrove: .venv-datatrove/.installed
.venv-datatrove/.installed: benchmarks/datatrove.txt
	$(PYTHON) -m venv .venv-datatrove
	.venv-datatrove/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/datatrove.txt
	touch $@

# The peers of the packing benchmark: tokenizers 1.0 does not go together with the one this project is built on.
.venv-encoders: .venv-encoders/.installed
.venv-encoders/.installed: benchmarks/encoders.txt
	$(PYTHON) -m venv .venv-encoders
	.venv-encoders/bin/python -m pip install --quiet --disable-pip-version-check -r benchmarks/encoders.txt
	touch $@

# torch first and pinned: pip would otherwise take its newest build.
# By itself the pip of Debian 12 builds seqeval as setuptools did long ago, which ends with "No module named 'vcs_versioning'".
$(INSTALLED): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# The README's pictures, of the demo build and of its run in the Prefect UI; needs Chromium.
pictures: $(INSTALLED)
	$(BIN)/python docs/pictures/take.py data/builds/demo

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 PYTHONPATH=. $(BIN)/python -m mkdocs build --strict

# The wheel is built from the source distribution, so that both are known to be whole.
dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --quiet
	.ci/smoke dist/*.whl $(BIN)/python

clean:
	rm -rf $(VENV) .venv-datatrove .venv-encoders .venv-sbom $(OLDEST) data/builds dist build site .fuzz
