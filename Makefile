# make demo      trains the English-Japanese translator and runs it without TensorFlow (minutes)
# make test      checks code style and types, runs all tests but the slow ones, counts what they ran
# make test-all  lists the slow tests by file and runs all: every family by Keras and as TFLite files,
#                GPUs, published weights
# make wheels    builds the two wheels and the source distribution in dist/
# make soak      kills small trainings at random moments and mutates files, for an hour or more
#
# All need Python 3.11, 3.12 or 3.13 and make the environment in .venv first. Another interpreter:
# make test PYTHON=/path/to/python3

BIN := .venv/bin
ENVIRONMENT := .venv/complete
SENTENCE := I love cats.

# Python that fails on `import tensorflow` and `import keras`; runs the script of its first argument.
WITHOUT_TENSORFLOW := import runpy, sys; \
	sys.modules.update(tensorflow=None, keras=None); \
	sys.argv = sys.argv[1:]; \
	runpy.run_path(sys.argv[0], run_name="__main__")

.PHONY: demo soak test test-all wheels

# The many processes of the tests compile each module once, whatever the shell says.
test test-all: export PYTHONDONTWRITEBYTECODE :=

demo: $(ENVIRONMENT)
	$(BIN)/tfx-transformer run translation --overwrite
	@echo
	@echo "The pairs of datasets/en_ja_heldout.csv, which training never saw, by the TFLite file:"
	$(BIN)/tfx-transformer evaluate saved_models/en_ja datasets/en_ja_heldout.csv --engine litert
	@echo
	@echo "Here TensorFlow and Keras cannot be imported; saved_models/en_ja/ translates by itself:"
	@printf '%s -> ' '$(SENTENCE)'
	@$(BIN)/python -c '$(WITHOUT_TENSORFLOW)' saved_models/en_ja/run.pyz '$(SENTENCE)'

test: $(ENVIRONMENT)
	$(BIN)/ruff check .
	$(BIN)/basedpyright --project pyproject.toml --pythonpath $(BIN)/python
	$(BIN)/python -m slipcover --json --out .coverage.json -m pytest -n 2 --dist loadfile
	$(BIN)/python -m slipcover --merge .coverage.json --out .coverage.json --skip-covered \
		--fail-under 95

test-all: $(ENVIRONMENT)
	@echo "Tests that make test leaves out, by file:"
	@$(BIN)/pytest --collect-only -qq -m slow
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test,jax,orbax]' || echo "JAX is left out."
	ALL_TESTS=1 $(BIN)/pytest -n 2 --dist loadfile

wheels: $(ENVIRONMENT)
	$(BIN)/python -m pip install --quiet build
	$(BIN)/python -m build
	$(BIN)/python -m build --wheel --outdir dist runtime_wheel

soak: $(ENVIRONMENT)
	$(BIN)/python tests/faults/kill_runs.py kills --count 200 --runs 40
	$(BIN)/python tests/faults/kill_runs.py signals --count 20
	$(BIN)/python tests/faults/kill_exports.py --count 40
	$(BIN)/python tests/faults/swap_bundles.py --count 1000
	$(BIN)/python tests/faults/fuzz.py --inputs 204000
	$(BIN)/python tests/faults/limited.py hostile_images
	$(BIN)/python tests/faults/limited.py hostile_patterns
	rm -rf runs/hostile
	$(BIN)/python tests/faults/hostile_models.py --make runs/hostile
	$(BIN)/python tests/faults/hostile_models.py runs/hostile/*
	$(BIN)/python tests/faults/hostile_models.py runs/hostile/* --tables --count 150
	$(BIN)/python tests/faults/hostile_models.py runs/hostile/* --configs --count 12
	$(BIN)/python tests/faults/kill_predict.py runs/hostile/text_classifier
	$(BIN)/python tests/faults/hostile_models.py runs/hostile/causal --file model.litertlm --count 400
	if $(BIN)/python -m pip install --quiet atheris; then \
		$(BIN)/python tests/faults/fuzz.py --guided; \
	else \
		echo "Inputs by coverage are left out: Atheris is for Python 3.11 and 3.12."; \
	fi

# A python that is found may still fail (a version manager's placeholder, a system without venv), so
# each is tried. The last line marks the environment as complete: until then it is made anew.
$(ENVIRONMENT): pyproject.toml constraints.txt
	@for python in $(PYTHON) python3.13 python3.12 python3.11 python3; do \
		if $$python -c 'import ensurepip, sys, venv; \
				sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then \
			echo "Making .venv with $$($$python --version); the first time takes minutes."; \
			exec $$python -m venv --clear .venv; \
		fi; \
	done; \
	echo "Python 3.11, 3.12 or 3.13 with venv is needed, and none was found." >&2; \
	echo "  Install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; \
	exit 1
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch $@
