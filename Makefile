# Works with GNU make 3.81 and later. `make` alone lists the targets.

PYTHON ?= python3
UV ?= uv
PORT ?= 5000
LESSON ?=
PY := .venv/bin/python

PYTHONHASHSEED ?= 0
TF_CPP_MIN_LOG_LEVEL ?= 2
export PYTHONHASHSEED TF_CPP_MIN_LOG_LEVEL

# For a kernel with another one beside it.
ONE_CORE := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1

INSTALL := $(PY) -m pip install --disable-pip-version-check --quiet
# A package that appears or goes changes what the editable install must know.
PACKAGES := $(wildcard utils/__init__.py apps/__init__.py)
COMPILE := $(UV) pip compile pyproject.toml --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-annotate --no-emit-index-url \
	--custom-compile-command "make lock" --quiet

.DEFAULT_GOAL := help
.PHONY: help course book unit test lab app streamlit notebooks colab lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

course: .venv/.course ## Run every lesson in order, and make the book in build/course/ (LESSON=02: that one)
	@$(PY) -m utils families
	@$(PY) notebooks/build.py course $(LESSON)
	@$(PY) notebooks/book.py

book: .venv/.course ## Make the book in build/course/ without running the lessons again
	@$(PY) notebooks/book.py

unit: .venv/.test ## Run the unit tests alone, without those that start servers, browsers and other programs
	$(PY) -m pytest tests -m "not program" -n 2 --dist loadfile

test: .venv/.test ## Check style and types, run all tests, then lessons and solutions under nbval
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m utils families
	$(PY) -m pytest tests -n 2 --dist loadfile
	$(PY) notebooks/build.py join
	$(ONE_CORE) $(PY) -m pytest --nbval-lax build/joined/*.ipynb -n 2 --dist loadfile

lab: .venv/.course ## Open the lessons in JupyterLab
	$(PY) -m utils families
	$(PY) -m jupyterlab notebooks

app: .venv/.course ## Serve the kinship page and its JSON API on http://127.0.0.1:5000 (PORT=5001: elsewhere)
	$(PY) -m apps.flask_app --port $(PORT)

streamlit: .venv/.course ## Open the app for faces, verification, kinship and family albums in the browser
	$(PY) -m streamlit run apps/streamlit_app.py

notebooks: .venv/.course ## Make the notebooks anew from notebooks/source/ (LESSON=02: those of one lesson)
	$(PY) -m utils families
	$(PY) notebooks/build.py generate $(LESSON)
	$(PY) notebooks/build.py check

colab: .venv/.course ## Run each lesson's setup cell as Colab would, from a clone (LESSON=02: one)
	$(PY) notebooks/build.py colab $(LESSON)

lock: ## Pin the requirements anew (needs uv; UPGRADE=--upgrade for newer versions)
	$(COMPILE) $(UPGRADE) --extra build --output-file requirements.txt
	$(COMPILE) $(UPGRADE) --extra test --constraint requirements.txt --output-file requirements-test.txt
	awk -F '==| ' 'NR == FNR { if (/^[a-z0-9]/) pin[$$1] = $$2; next } \
		/^      - .*==/ { $$0 = "      - " $$8 "==" pin[$$8] } { print }' \
		requirements.txt environment.yml > environment.yml.new
	mv environment.yml.new environment.yml

clean: ## Remove what was generated; the environment in .venv stays
	rm -rf build data/families data/.families* data/cache .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -f models/.*.lock models/.*-????????.keras models/.*-????????.npz models/*.run/.*-????????.npz
	find . -name .venv -prune -o -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "The course needs Python 3.11, 3.12 or 3.13; $(PYTHON) is" \
			"$$($(PYTHON) --version 2>&1). Name another one: make course PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.course: .venv/bin/python requirements.txt pyproject.toml $(PACKAGES)
	$(INSTALL) --require-hashes -r requirements.txt
	$(INSTALL) --no-index --no-deps --no-build-isolation --editable .
	@touch $@

.venv/.test: .venv/.course requirements-test.txt
	$(INSTALL) --require-hashes -r requirements-test.txt
	@touch $@
