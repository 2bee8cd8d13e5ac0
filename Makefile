# xenpaging-pc: `make help` prints the targets.
.DEFAULT_GOAL := all
SHELL := /bin/bash
PREFIX ?= /usr
DESTDIR ?=
B := build
BIN := $(B)/pager/xenpaging-pc

.PHONY: all help setup xen xen-4.20 xen-dev xen-export images deb demo test test-long bench bench-paging bench-suspend bench-native native lint sanitize install clean

all: ## build xenpaging-pc into build/pager/
	@$(MAKE) --no-print-directory -C pager OUT=../$(B)/pager

help: ## print the targets
	@sed -n 's/^\([a-z0-9.-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

setup: ## install the Debian packages of tests/setup/packages.txt that are missing (needs root)
	@tests/setup/install

xen: setup ## build patched Xen (release and debug) and its tools from Debian's source (XEN_TARBALL=FILE: by hand)
	@tests/xen/xen-build all

xen-4.20: setup ## the same of Xen 4.20, Debian trixie's source, into build/xen/4.20 (release only; nothing runs it yet)
	@tests/xen/xen-build --release 4.20 hypervisor release
	@tests/xen/xen-build --release 4.20 tools

xen-dev: setup ## leave the patched Xen tree, series as commits, in build/xen/dev
	@tests/xen/xen-build dev

xen-export: ## write the commits of build/xen/dev back into the patch folders
	@tests/xen/xen-build export

deb: setup ## Debian packages of patched Xen and of xenpaging-pc, into build/deb (needs root for build dependencies)
	@tests/xen/deb-build

images: xen all witness ## what the lab's hosts and guests run

witness: setup
	@$(MAKE) --no-print-directory -C tests/witness OUT=../../$(B)/witness all

demo: images ## move a live guest between two Xen hosts post-copy and print what happened
	@tests/demo/demo

test: images lint sanitize ## every test that CI runs; ends with `N passed, N failed`
	@tests/run test

test-long: images deb ## soaks and everything beyond 30 minutes; latest result in tests/results/
	@tests/setup/install packages-long.txt
	@tests/run test-long

bench: images ## guests that work, moved in five ways: the matrix of 2017, in exact mode; report in build/results/2017/ (hours)
	@tests/bench/bench run 2017
	@tests/bench/bench report $(B)/results/bench-2017.jsonl --out $(B)/results/2017

bench-paging: images ## batches, ranges, superpages, a pager killed: in exact mode; figures in build/results/
	@tests/bench/bench-paging
	@tests/bench/foreign-absent
	@tests/bench/superpages-kept
	@tests/cases/test-pager-killed
	@tests/hypervisor/test-many-vcpus

bench-suspend: images ## how long a guest is suspended, and by what; in exact mode; figures in build/results/
	@tests/bench/bench-suspend

native: setup
	@$(MAKE) --no-print-directory -C tests/native OUT=../../$(B)/native/bin

bench-native: native ## a guest under userfaultfd on this machine, links of its own, QEMU beside it; figures in build/native/ (BENCH_NATIVE=: options)
	@tests/native/bench-native $(BENCH_NATIVE)

lint: setup ## clang-format, cppcheck, shellcheck, and the suite's declared seconds
	@tests/lint

sanitize: setup ## unit tests and the simulation under ASan and UBSan
	@$(MAKE) --no-print-directory -C tests/unit OUT=../../$(B)/unit-san SAN=1 run
	@$(MAKE) --no-print-directory -C tests/sim OUT=../../$(B)/sim-san SAN=1 run

install: all ## install xenpaging-pc, its hook script, man page and bash completion (DESTDIR=, PREFIX=/usr)
	@$(MAKE) --no-print-directory -C pager OUT=../$(B)/pager PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) install

clean: ## remove what was built, but not Xen and images
	rm -rf $(B)/pager $(B)/unit $(B)/unit-san $(B)/sim $(B)/sim-san $(B)/witness $(B)/test-logs
