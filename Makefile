# The developer's interface. `make demo` and `make test` set up all that they need.
.PHONY: help packages setup demo test test-fast lint fmt bench bench-check soak audit sbom docs screenshots clean
BIN := .venv/bin
# The tests start hundreds of Python processes: without bytecode on disk each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

help: ## Show what there is to make
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: .venv/.ready ## Put jobsphere and its tools into .venv/bin

.venv/.ready: pyproject.toml uv.lock tools/setup.sh tools/bring_uv.py
	@tools/setup.sh

packages:
	@tools/packages.sh

demo: setup ## Run an example job on a private server
	@$(BIN)/jobsphere demo

test: lint packages ## Lint, then all tests, the fast ones first
	@tools/setup.sh --group spark --extra ray
	@$(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist loadfile

test-fast: setup ## Only the tests that start no server
	@$(BIN)/pytest tests/unit tests/contract

lint: setup ## Style, types, layers
	@$(BIN)/ruff check src tests benchmarks tools examples
	@$(BIN)/ruff format --check -q src tests benchmarks tools examples
	@$(BIN)/python tools/make_sync.py --check
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports

fmt: setup ## Mend the style; make the client that blocks from the one for asyncio
	@$(BIN)/ruff check --fix -q src tests benchmarks tools examples
	@$(BIN)/ruff format src tests benchmarks tools examples
	@$(BIN)/python tools/make_sync.py

bench: setup ## Measure this project beside peers and limits; prints ratios
	@tools/setup.sh --group bench
	@$(BIN)/python -m benchmarks

bench-check: setup ## Measure, and fail where a ratio is over 20% worse than the one accepted last
	@tools/setup.sh --group bench
	@$(BIN)/python -m benchmarks --check

soak: setup packages ## The long sweeps, whole; broken off, they go on where they were
	@tools/setup.sh --group spark --extra ray
	@PYTHONPATH=. $(BIN)/python tools/soak.py

docs: setup ## Build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "open site/index.html"

screenshots: setup packages ## Take the pictures in docs/images anew
	@PYTHONPATH=. $(BIN)/python tools/screenshots.py

audit: setup ## Ask whether a locked dependency is known to be vulnerable
	@$(BIN)/python tools/audit.py $(BIN)/uv

sbom: setup ## Write dist/sbom.cdx.json: what a release is made of (CycloneDX), from uv.lock alone
	@mkdir -p dist
	@$(BIN)/uv export --frozen --quiet --no-dev --preview-features sbom-export --format cyclonedx1.5 \
	  --output-file dist/sbom.cdx.json || { echo "make sbom: uv cannot write it; see above" >&2; exit 2; }
	@echo "dist/sbom.cdx.json: $$(grep -c '"purl"' dist/sbom.cdx.json) components"

clean: ## Remove the environment and caches
	rm -rf site .venv .uv .pytest_cache .ruff_cache .hypothesis .import_linter_cache
