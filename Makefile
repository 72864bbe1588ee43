# `make help` lists what there is. Everything runs with Go alone.
.DEFAULT_GOAL := help
SHELL := /bin/bash
TOOL := go tool -modfile=.tools/go.mod

.PHONY: help demo dev test bench lint fuzz

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## connect one user to an emulated Google and show how it goes
	go run ./emulators -listen 127.0.0.1:0 -google 127.0.0.1:0 -demo

dev: ## run the whole system on this machine until Ctrl-C
	go run ./emulators

test: lint ## check formatting, vet, lint, and run every test and each fuzz target briefly
	go test -race -timeout 20m ./...
	$(MAKE) --no-print-directory fuzz FUZZTIME=5s

lint: ## golangci-lint, which includes vet and formatting
	$(TOOL) golangci-lint run ./...

FUZZTIME ?= 30s
fuzz: ## fuzz every parser of outside input (FUZZTIME=30s each)
	@set -e; for target in $$(grep -rhoE '^func Fuzz[A-Za-z]+' --include='*_test.go' . | cut -c6- | sort -u); do \
		dir=$$(dirname $$(grep -rlE "^func $$target\b" --include='*_test.go' .)); \
		echo "fuzz $$target in $$dir"; \
		go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) $$dir; \
	done

bench: ## count calls, store operations and time of setups
	go test -run='^$$' -bench=. -benchtime=1x ./emulators/stack
