.PHONY: demo test quality style docs card lock
VENV ?= .venv
export BLIP_REFINE_VENV := $(VENV)

demo:      ## The main job on the embedded default, in three minutes
	sh scripts/demo.sh

test:      ## All tests
	sh scripts/test.sh

quality:   ## Lint, formatting and types
	sh scripts/environment.sh dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

style:     ## Put formatting right
	sh scripts/environment.sh dev
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

lock:      ## scripts/lock.txt and scripts/oldest.txt anew, with uv
	sh scripts/lock.sh

card:      ## MODEL_CARD.md, from the starter's own files
	sh scripts/environment.sh
	$(VENV)/bin/python scripts/starter_card.py

docs:      ## Check that every documented command and example runs
	sh scripts/environment.sh dev
	$(VENV)/bin/python -m pytest -q tests/test_docs.py
