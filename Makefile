# The recipes of this project; CI calls the same ones. `make help` lists them.
SHELL := /bin/bash
FEATURES := --features seawall-coordinator/fault-injection,seawall-agent/fault-injection

.PHONY: help setup build test lint quickstart bench soak

help:
	@echo "make quickstart   a small cluster on this machine: backup, restore, compare (ARGS=--keep leaves it up)"
	@echo "make test         every test, on real servers"
	@echo "make lint         formatting, clippy, licences"
	@echo "make bench        backup and restore against tar+zstd+age and restic"
	@echo "make soak         the long fault tests"
