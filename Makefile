# `make help` lists what there is. With BACKENDS=memory everything runs with Go alone.
.DEFAULT_GOAL := help
SHELL := /bin/bash
TOOL := go tool -modfile=.tools/go.mod
TFLINT := go tool -modfile=.tools/tflint/go.mod tflint --chdir=terraform --recursive --config="$(CURDIR)/terraform/.tflint.hcl"

.PHONY: help demo dev test check race lint terraform fuzz bench load soak image push smoke

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Where state, tokens and tasks are: memory, or real (Firestore emulator, Vault, Cloud Tasks emulator).
BACKENDS ?= memory

demo: ## connect one user to an emulated Google and show how it goes (BACKENDS=real: over the real services)
	go run ./emulators -listen 127.0.0.1:0 -google 127.0.0.1:0 -backends $(BACKENDS) -demo

dev: ## run the whole system on this machine until Ctrl-C (BACKENDS=real: likewise)
	go run ./emulators -backends $(BACKENDS)

# Compilers, linkers and tests live for seconds: half of their time went into collecting
# garbage. The limit keeps each small all the same.
test check race lint: export GOGC := 400
test check race lint: export GOMEMLIMIT := 2GiB

# Tests that need a program which this machine lacks (the Firestore emulator, Java,
# terraform, Chromium, gcloud) are skipped and named at the end; with CI set they fail.
# Packages that wait for services leave the cores to others: one more runs than there
# are cores, and those that take longest begin.
AT_ONCE ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 1)
test: ## run every test that this machine can run
	@skipped=$$(mktemp) && trap 'rm -f "$$skipped"' EXIT && \
		SKIPPED_TESTS=$$skipped go test -p $(AT_ONCE) -timeout 20m ./terraform ./emulators/console ./... && \
		if [ -s "$$skipped" ]; then printf '\nNOT RUN, because something is missing on this machine:\n' && sort -u "$$skipped" | sed 's/^/  /'; fi

# Packages whose tests all need processes that are not Go's, or build programs: check
# compiles them, vets them and leaves running them to test.
SLOW := /cmd/|/console$$|/deployment$$|/load$$|/parts|/services$$|/terraform$$|/bench$$|gcpconnect/emulators$$
check: ## formatting, vet, and the tests that need nothing but Go
	@unformatted=$$(gofmt -l .) && if [ -n "$$unformatted" ]; then printf 'not formatted:\n%s\n' "$$unformatted" && exit 1; fi
	go vet ./...
	go test -short -vet=off $$(go list ./... | grep -vE '$(SLOW)')

race: ## the tests that need nothing but Go under the race detector (needs a C compiler)
	CGO_ENABLED=1 go test -race -short -vet=off -timeout 20m $$(go list ./... | grep -vE '$(SLOW)')

lint: ## golangci-lint, and tflint
	$(TOOL) golangci-lint run ./...
	$(TFLINT)

terraform: ## check and test the deployment, and plan its examples (TERRAFORM_PROVIDER=registry: with the real provider)
	$(TFLINT)
	go test -count=1 ./terraform

FUZZTIME ?= 30s
fuzz: ## fuzz every parser of outside input (FUZZTIME=30s each)
	@set -e; for target in $$(grep -rhoE '^func Fuzz[A-Za-z_]+' --include='*_test.go' . | cut -c6- | sort -u); do \
		dir=$$(dirname $$(grep -rlE "^func $$target\b" --include='*_test.go' .)); \
		echo "fuzz $$target in $$dir"; \
		go test -run='^$$' -fuzz="^$$target$$" -fuzztime=$(FUZZTIME) $$dir; \
	done

BENCH ?= dist/bench.json
bench: ## measure setups beside the least possible, own overhead, requests a second, cold starts and cost (JSON in BENCH)
	go run ./emulators/bench -json $(BENCH)
	go test -run='^$$' -bench=. -benchtime=200x ./emulators/google

load: ## put the system under load over the real services, and measure (a quarter of an hour; PROFILE=file of the functions)
	go run ./emulators/load -profile=$(PROFILE)

# 0: another one each time
SEED ?= 0
# How many random schedules soak tries over the real services.
REAL_CHECKS ?= 25
soak: ## everything at length, from a SEED that it prints: crash points, fencing, random schedules, fuzzing, load
	@seed=$(SEED); if [ "$$seed" = 0 ]; then seed=$$(od -An -N4 -tu4 /dev/urandom | tr -d ' '); fi; \
		echo "make soak SEED=$$seed repeats these schedules"; set -e; \
		go test -count=1 -timeout 2h ./functions/app ./emulators/stack/... -args -full -seed=$$seed; \
		go test -count=1 -timeout 2h ./functions/app -run OverRealServices -rapid.checks=$(REAL_CHECKS) -args -full -seed=$$seed; \
		$(MAKE) --no-print-directory fuzz load

IMAGE_DIR ?= dist/image
image: ## build the container image, without Docker, as an OCI layout in IMAGE_DIR=dist/image, and say its digest
	@go run ./functions/cmd/image -dir $(IMAGE_DIR)

push: ## build the image and push it to REPOSITORY, as its credentials in Docker's configuration allow; says its name by digest
	@digest=$$($(MAKE) --silent image) && $(TOOL) crane push $(IMAGE_DIR) $(REPOSITORY)/gcpconnect@$$digest

ROOT ?= terraform/examples/production
smoke: ## look from outside at what Terraform has deployed from ROOT=terraform/examples/production
	@terraform -chdir=$(ROOT) output -json | go run ./functions/cmd/smoke
