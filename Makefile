# Every path here is relative and every program in .venv is called by `python -m`: the folder above may have any name, with spaces too.
# PYTHON=… names the interpreter for .venv, ARGS=… is handed on: to pytest (make test ARGS="-k resume"), or to `nlp-tasks run` (make demo
# ARGS=--restart). JOBS=… are the processes of `make test`.

JOBS ?= 2
SAMPLES := sentiment/sample pos_tagging/sample ner/sample language_modeling/sample machine_translation/sample \
	question_answering/sample word_vectors/sample

SHELL := /bin/sh
VENV_PYTHON := .venv/bin/python
PIP := $(VENV_PYTHON) -m pip --disable-pip-version-check --no-input install -qq

# Keras and Matplotlib keep settings and a font list in the home folder; here they keep them in .venv.
export KERAS_HOME := $(CURDIR)/.venv/cache/keras
export MPLCONFIGDIR := $(CURDIR)/.venv/cache/matplotlib

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint format bench clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*##/\1 /p' Makefile | while read -r name text; do printf '  make %-10s%s\n' "$$name" "$$text"; done

demo: .venv/.installed  ## train, score and export the samples, let one answer, show the table; needs no data
	@mkdir -p runs
	@$(VENV_PYTHON) -m nlp_tasks run $(SAMPLES) $(ARGS) > runs/.demo.txt
	@echo
	@printf '%s\n' 'Slow, but I would not call the staff rude.' 'Not slow, but I would call the staff rude.' \
		| $(VENV_PYTHON) -m nlp_tasks predict saved_models/sentiment-sample --format tsv
	@echo
	@$(VENV_PYTHON) -m nlp_tasks generate saved_models/language_modeling-sample --prompt 'the cook that the boys near the ships like' \
		--max-tokens 24 --temperature 0.7
	@echo
	@printf '%s\n' 'Two monks hear three strange boats behind the wall.' | $(VENV_PYTHON) -m nlp_tasks translate saved_models/machine_translation-sample
	@echo
	@printf '%s\n' '{"question": "Who gave Mira a ring?", "passage": "On Friday Mira gave Tomas a lamp. On Monday Tomas gave Mira a ring."}' \
		| $(VENV_PYTHON) -m nlp_tasks ask saved_models/question_answering-sample
	@echo
	@$(VENV_PYTHON) -m nlp_tasks analogy saved_models/word_vectors-sample norway oslo greece --count 3
	@echo
	@cat runs/.demo.txt

test: .venv/.installed-dev  ## the fast tests
	@$(VENV_PYTHON) -m pytest --numprocesses $(JOBS) --dist loadfile -m "not slow" $(ARGS)

test-all: .venv/.installed-dev  ## every test, also those that train, kill and export
	@$(VENV_PYTHON) -m pytest $(ARGS)

lint: .venv/.installed-dev  ## style, format, types, which file may import which
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy
	@$(VENV_PYTHON) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo

format: .venv/.installed-dev  ## mend what ruff can mend
	@$(VENV_PYTHON) -m ruff check --fix .
	@$(VENV_PYTHON) -m ruff format .

# benchmarks/recipes.py needs data sets and hours; it is called by hand.
# PYTORCH names an interpreter that has benchmarks/peers/pytorch/requirements.txt.
bench: .venv/.installed-dev  ## the benchmarks that need no data: optimizers, the exported sample, recurrent layers, language models (half an hour)
	$(VENV_PYTHON) benchmarks/optimizers.py
	@$(VENV_PYTHON) -m nlp_tasks run sentiment/sample > /dev/null
	$(VENV_PYTHON) benchmarks/export.py runs/sentiment-sample saved_models/sentiment-sample
	$(VENV_PYTHON) benchmarks/serving.py saved_models/sentiment-sample
	$(VENV_PYTHON) benchmarks/recurrent.py $(if $(PYTORCH),--pytorch $(PYTORCH))
	$(VENV_PYTHON) benchmarks/language_modeling.py $(if $(PYTORCH),--pytorch $(PYTORCH))
	$(VENV_PYTHON) benchmarks/vanishing_gradients.py

clean:  ## remove .venv, caches and builds; runs/ and saved_models/ stay
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find nlp_tasks tests benchmarks -type d -name __pycache__ -prune -exec rm -rf {} +

# A stamp is younger than what it was made of. The package is installed editable, so only pyproject.toml asks for another install.
.venv/.installed: pyproject.toml | .venv/.created
	@echo "installing nlp-tasks and TensorFlow into .venv: a minute or two, no output means all is well"
	@$(PIP) --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml | .venv/.created
	@echo "installing nlp-tasks, TensorFlow and the developer's tools into .venv: a minute or two, no output means all is well"
	@$(PIP) --editable '.[dev]'
	@touch .venv/.installed $@

.venv/.created:
	@for python in "$(PYTHON)" python3.13 python3.12 python3.11 python3 python; do \
		if "$$python" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2> /dev/null; then \
			found=$$python; break; \
		elif [ -n "$$python" ] && [ "$$python" = "$(PYTHON)" ]; then break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'error: no Python 3.11, 3.12 or 3.13 with the modules venv and ensurepip' \
			"$(if $(PYTHON),at PYTHON=$(PYTHON),among python3.13 python3.12 python3.11 python3 python)" >&2; \
		echo 'hint: install one (on Debian and Ubuntu with python3-venv), or name it: make demo PYTHON=/path/to/python3.12' >&2; \
		exit 2; \
	fi; \
	rm -rf .venv && "$$found" -m venv .venv && touch $@
