# Every recipe is one line of work; all of them use the environment that `make setup` makes.
.PHONY: setup run test fuzz swarm lint types gate bench closed-forms mock clean

setup:  ## make .venv with everything that the tests need
	python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[test]'

run:  ## the crisis, all variants
	.venv/bin/harness run scenarios/timeout_crisis.toml

test:  ## all tests
	.venv/bin/python -m pytest -q -n auto --dist loadfile -m 'not wall_clock' && .venv/bin/python -m pytest -q -m wall_clock

fuzz:  ## 150,000 hostile conversations with the mock, other ones every time; about a quarter of an hour
	FUZZ_LONG=1 .venv/bin/python -m pytest -q tests/test_fuzz.py

swarm:  ## two hundred random worlds; a failure prints its seed and its scenario
	SWARM=200 .venv/bin/python -m pytest -q tests/test_swarm.py

lint:  ## rules and format
	.venv/bin/ruff check . && .venv/bin/ruff format --check .

types:  ## mypy, strict
	.venv/bin/mypy

gate:  ## figures against the committed baselines
	.venv/bin/harness gate

bench:  ## speed and memory of the virtual engine, speed of the twin
	.venv/bin/python tests/benchmarks/virtual_engine.py && .venv/bin/python tests/benchmarks/twin.py

closed-forms:  ## the twin against queueing theory, row by row; about a quarter of an hour
	.venv/bin/python tests/closed_forms.py

mock:  ## the stand-in for OpenRouter on port 8000, until Ctrl-C
	.venv/bin/harness mock scenarios/timeout_crisis.toml

clean:  ## caches and builds; .venv and results/runs stay
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis dist && find harness loadtests mock_llm tests -name __pycache__ -prune -exec rm -rf {} +
