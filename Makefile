# Everything runs in .venv, which the first target that needs it creates; `make` alone lists them.

PYTHON  ?=
WORKERS ?= 2

BIN   := .venv/bin
DEV   := .venv/.installed-dev
DEMO  := .venv/.installed-demo
# The demo needs less than the tests do: whoever has all that the tests need has enough.
DEMO_ENVIRONMENT := $(if $(wildcard $(DEV)),$(DEV),$(DEMO))

# Where scikit-image and matplotlib keep photographs of a cat, an astronaut and an admiral.
PHOTOGRAPHS := import matplotlib, pathlib, skimage; \
	s, m = (pathlib.Path(p.__file__).parent for p in (skimage, matplotlib)); \
	print(s / "data/chelsea.png", s / "data/astronaut.png", \
		m / "mpl-data/sample_data/grace_hopper.jpg")

# About two minutes of training on two CPU cores, from nothing: scenes that are all different need
# no augmentation.
DEMO_MODEL  ?= ssdlite320_mobilenet_v2
DEMO_IMAGES ?= 800
DEMO_SIZE   ?= 160
DEMO_EPOCHS ?= 8

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-all lint clean

help:
	@echo "make demo      find a cat and two people; train a small detector for two minutes, measure it"
	@echo "make test      all checks and tests but the slow ones"
	@echo "make test-all  every test; takes longer and may download"
	@echo "make lint      ruff, mypy and the import rules"
	@echo "make venv      only create the environment for development, in .venv"
	@echo "make clean     remove the demo, caches and builds; the environment and runs/ stay"
	@echo "PYTHON=...     the interpreter to create .venv with (3.11 or later)"

venv: $(DEV)

demo: $(DEMO_ENVIRONMENT)
	rm -rf demo/data demo/run demo/detections demo/photographs
	$(BIN)/multibox detect $$($(BIN)/python -c '$(PHOTOGRAPHS)') --out demo/photographs
	$(BIN)/python -m multibox.data.synthetic demo/data --images $(DEMO_IMAGES)
	$(BIN)/multibox train demo/data --model $(DEMO_MODEL) --weights none \
		--image-size $(DEMO_SIZE) --epochs $(DEMO_EPOCHS) --batch-size 8 --learning-rate 0.05 \
		--no-augment --out demo/run
	$(BIN)/multibox evaluate demo/run/best.safetensors demo/data --split test --metric voc07
	head -n 12 demo/data/ImageSets/Main/test.txt | sed 's|.*|demo/data/JPEGImages/&.jpg|' \
		| xargs $(BIN)/multibox detect --model demo/run/best.safetensors --score 0.3 --out demo/detections
	@echo
	@echo "What the detector in the package found:        demo/photographs/"
	@echo "What the new one found in pictures new to it:  demo/detections/"
	@echo "How the training went, as curves and pictures:  demo/run/"
	@echo
	@echo "Next, with pictures of your own in FOLDER (VOC, COCO or YOLO labels; docs/data.md):"
	@echo "  $(BIN)/multibox train FOLDER --model $(DEMO_MODEL) --out runs/mine"
	@echo "  $(BIN)/multibox evaluate runs/mine/best.safetensors FOLDER --split val"
	@echo "  $(BIN)/multibox detect PICTURES --model runs/mine/best.safetensors"

test: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) -m "not slow"

test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf demo/data demo/run demo/detections demo/photographs dist
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11); do \
		if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' \
			2>/dev/null; then exec $$python -m venv .venv; fi; \
	done; \
	echo "multibox needs Python 3.11 or later with venv (on Debian and Ubuntu: the package" >&2; \
	echo "python3-venv); then: make PYTHON=/path/to/python $(MAKECMDGOALS)" >&2; \
	exit 1

.venv/.installed-%: pyproject.toml | $(BIN)/python
	@echo "Installing into .venv. PyTorch (several GB on Linux) takes a few minutes."
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[$*]"
	@touch $@
