# A thin front: each target is a line or two that CMake, CTest or a script does. `make help` lists them.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# Further options for CMake, as in: make CMAKE_ARGS="-DCRESSET_OPENMP=OFF".
CMAKE_ARGS ?=

# The generator is chosen once, when a build folder is first configured.
configure = cmake -S . -B $(1) $$(test -f $(1)/CMakeCache.txt || ! command -v ninja >/dev/null || echo -G Ninja) $(2)
sources = find . -path './build*' -prune -o -name '*.[ch]' -print
build = cmake --build $(1) --parallel $(JOBS)

.PHONY: all demo test install format format-check lint docs bench bench-setup mutants check-options clean help

all: ## Build the library, the examples, the tests and the benchmarks
	@$(call configure,$(BUILD),$(CMAKE_ARGS))
	@$(call build,$(BUILD))

demo: ## Install what is missing, build, and teach a DCGAN to draw emoji (about four minutes on two cores)
	@scripts/setup build
	@$(MAKE) --no-print-directory all
	$(BUILD)/examples/dcgan/dcgan
	@scripts/check-onnx runs/dcgan/generator.onnx runs/dcgan/generator-program.safetensors $(BUILD)

test: ## Install what is missing, build, and run every test
	@scripts/setup test
	@$(MAKE) --no-print-directory all
	@test ! -x scripts/python-env || scripts/python-env
	@scripts/run-tests $(BUILD)

install: all ## Install the libraries, headers, pkg-config files and CMake package (PREFIX=, DESTDIR=)
	DESTDIR="$(DESTDIR)" cmake --install $(BUILD) --prefix "$(PREFIX)"

format: ## Format every source file (clang-format)
	@scripts/setup lint
	@$(sources) | xargs clang-format -i

format-check: ## Say which files `make format` would change
	@scripts/setup lint
	@$(sources) | xargs clang-format --dry-run -Werror

lint: ## Read the sources with clang-tidy; ends clean or fails
	@scripts/setup lint
	@scripts/lint

docs: ## Write the reference manual to build/docs/html (Doxygen)
	@scripts/setup docs
	@scripts/docs

bench-setup: ## Install what bench compares with into build/bench-venv (PyTorch, ONNX Runtime, OpenVINO, JAX, ncnn: 6 GB; llama.cpp is compiled)
	@scripts/setup bench
	@scripts/python-env bench
	@build/bench-venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 1 \
	    --requirement benchmarks/suite/requirements-ggml.txt || echo "llama.cpp could not be installed; its rows say so"

bench: ## Measure Cresset beside its peers, as many as bench-setup installed (BENCH='--quick', '--filter ResNet', …)
	@$(MAKE) --no-print-directory all
	@benchmarks/cresset-bench $(BENCH)

mutants: ## Break kernels and gradient rules one at a time and count what the tests notice (COUNT=, SEED=)
	@scripts/setup test
	@/usr/bin/env python3 scripts/mutate.py $(if $(COUNT),--count $(COUNT)) $(if $(SEED),--seed $(SEED))

check-options: ## Build (Debug) with each optional dependency switched off in turn
	@scripts/check-options

clean: ## Remove the build folders
	rm -rf $(BUILD) build-*

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
