# SPDX-License-Identifier: Apache-2.0
#
# Every target sets up what it needs first: see scripts/setup, also for PYTHON and TORCH.
# ARGS goes to the program, for instance: make demo ARGS="--seed 3"

export PYTHON TORCH
ifdef ROS_DISTRO
# Where the type support of our messages is; with the ROS of PyPI, Python sees to that itself.
export LD_LIBRARY_PATH := $(CURDIR)/.venv/lib:$(LD_LIBRARY_PATH)
endif

PROGRAM := .venv/bin/vjepa2-ros
EPISODES ?= 50
SEED ?= 1
TASK ?= pick_and_place
REPORT ?= runs/evaluate/$(TASK).json
GOLDEN ?= test/golden

.PHONY: help setup demo demo-franka check test test-slow lint train evaluate verify bench-gpu clean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 18

setup: ## only the set-up: virtual environment, dependencies, messages and services
	@scripts/setup

demo: setup ## all nodes with the simulated arm: from a goal image to the goal
	$(PROGRAM) demo $(ARGS)

demo-franka: setup ## the same with the client of a real arm, and the simulated one behind its protocol
	$(PROGRAM) demo --preset simulated_franka $(ARGS)

check: lint test ## what a change has to pass: style, types, all tests

lint: setup ## style and types
	@scripts/setup lint
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy

test: setup ## all tests, in two processes; or those that ARGS selects
	.venv/bin/python -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile --no-loadscope-reorder)

test-slow: setup ## the tests of what rarely changes: packaging, two benchmarks
	.venv/bin/python -m pytest -m slow

train: setup ## collect data in the simulation and train the world model
	$(PROGRAM) train $(ARGS)

evaluate: setup ## EPISODES of TASK from SEED, with a table and REPORT
	@mkdir -p $(dir $(REPORT))
	$(PROGRAM) evaluate --task $(TASK) --episodes $(EPISODES) --seed $(SEED) --json $(REPORT) $(ARGS)

verify: setup ## compare with tensors of the reference implementation, in the folder GOLDEN
	$(PROGRAM) verify $(GOLDEN) $(ARGS)

bench-gpu: setup ## all figures that need a GPU, into docs/gpu.md
	$(PROGRAM) bench gpu $(ARGS)

clean: ## remove what set-up and builds made; runs/ stays
	rm -rf .venv build install log dist *.egg-info vjepa2_ros/msg vjepa2_ros/srv vjepa2_ros/*.so
	find . -name __pycache__ -prune -exec rm -rf {} +
