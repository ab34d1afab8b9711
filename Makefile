# The doors of this checkout. CMake does the building (CMakePresets.json); this file names what people
# do with it. On Debian 12 each target first installs the packages it lacks (tools/packages.txt).

export PROMPT ?= Ben buys 8 apples for $$2 each and pays with $$31. How many dollars of change does he get?
MODEL ?= zoo/mimo-tiny
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help run test test-long cuda cuda-objects bench-cuda check format tidy tsan fuzz bench packages check-packages

help:  ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: build/release/build.ninja  ## Build, then let a small model answer a word problem (MODEL=, PROMPT=)
	cmake --build build/release --target ashlar
	build/release/src/cli/ashlar run $(MODEL) -p "$$PROMPT"

test: check-packages build/dev/build.ninja  ## Gates and tests, under AddressSanitizer and UBSan
	cmake --build build/dev --target all check_headers
	ctest --test-dir build/dev -j $(JOBS) --output-on-failure -LE long

test-long: check-packages build/dev/build.ninja  ## The same, and the tests that take minutes
	cmake --build build/dev --target all check_headers
	ctest --test-dir build/dev -j $(JOBS) --output-on-failure

cuda: build/cuda/build.ninja  ## Compile the CUDA bodies (nvcc) and run their tests where there is a card
	cmake --build build/cuda --target cuda_bodies
	ctest --test-dir build/cuda -j 1 --output-on-failure -L gpu

cuda-objects: build/cuda/build.ninja  ## Compile them alone, without what they are linked with
	ninja -C build/cuda $$(ninja -C build/cuda -t targets all | sed -n 's/^\(.*\.cu\.o\): .*/\1/p')

bench-cuda: build/cuda/build.ninja  ## Attention on this card against its roof, into docs/performance.md
	cmake --build build/cuda --target attention_cuda
	build/cuda/bench/attention_cuda >build/cuda/attention.jsonl
	tools/performance/make.py build/cuda/attention.jsonl

check: check-packages  ## The gates alone: arrows, sizes, names, format
	tools/check

format: check-packages  ## Format every C++ file in place
	tools/check --format

tidy: build/dev/build.ninja  ## clang-tidy over the product's sources
	tools/install-packages tidy
	git ls-files 'src/*.cc' | xargs -P $(JOBS) -n 4 clang-tidy-14 -p build/dev --quiet

tsan: build/tsan/build.ninja  ## Tests under ThreadSanitizer
	cmake --build build/tsan
	ctest --test-dir build/tsan -j $(JOBS) --output-on-failure -LE 'long|gate'

fuzz: build/fuzz/build.ninja  ## A minute of libFuzzer for each fuzz target (clang)
	cmake --build build/fuzz
	set -e; for target in build/fuzz/src/*/*_fuzz; do \
	  corpus=$$(basename $$target _fuzz); mkdir -p build/fuzz/corpus/$$corpus; \
	  $$target -max_total_time=60 build/fuzz/corpus/$$corpus fuzz/corpus/$$corpus; done

bench: build/release/build.ninja  ## Every op against this machine's roof, and what the cache's books cost
	cmake --build build/release --target ashlar cache_bench
	build/release/src/cli/ashlar bench ops
	build/release/src/kv/cache_bench

packages:
	@tools/install-packages build
check-packages:
	@tools/install-packages build check

# Configured once; CMake itself notices when its inputs change.
build/%/build.ninja: | packages
	cmake --preset $*
build/fuzz/build.ninja: | packages
	tools/install-packages fuzz
	cmake --preset fuzz
