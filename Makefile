# make            build bin/fnatd, bin/fnatctl and bin/fnatrs
# make demo       show it at work in network namespaces (root)
# make test       every test; as root also those in network namespaces
# make check      lint, test, and generated files that match their source
# make bench      measure it beside its rivals (root); about an hour
# make guard      has the packet path become slower than in the parent commit?
# make profile    tell the compiler anew where fnatd spends its time
# make generate   compile the BPF programs again (clang 14)
# make man        manual pages in bin/man, from what --help prints
# make install    into $(DESTDIR)$(PREFIX), with manual and completion
#
# What a target needs besides Go and git, scripts/deps.sh installs when it is
# root and names when it is not. FNATD_TEST_ROOT=1 turns the skip of a test
# that lacks a capability into a failure.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
PREFIX  ?= /usr/local

# The version comes by the linker, so git is not asked a second time.
export CGO_ENABLED := 0
BUILD := -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)'

GENERATED := '*_bpfel.go' '*_bpfel.o'

.PHONY: all
all: build

.PHONY: build
build:
	$(GO) build $(BUILD) -o bin/ ./cmd/...

# The whole-program tests come last and alone, because they share the machine's
# few cores with the programs that they start.
.PHONY: test
test: build
	@scripts/deps.sh test || { [ "$$(id -u)" -ne 0 ] && echo 'tests that need root are skipped'; }
	$(GO) test $$($(GO) list ./... | grep -v /tests)
	$(GO) test -p 1 -timeout 30m ./tests/...

.PHONY: demo
demo: build
	@scripts/deps.sh test
	$(GO) run -buildvcs=false ./tests/demo

.PHONY: bench
bench: build
	@scripts/deps.sh bench
	$(GO) run -buildvcs=false ./tests/bench -bin bin -out bin/bench

.PHONY: guard
guard:
	$(GO) run -buildvcs=false ./tests/guard

# go build takes default.pgo for fnatd by itself. An old one does no harm: what it does
# not know is compiled as without. The program lies elsewhere because its path is noted.
.PHONY: profile
profile:
	dir=$$(mktemp -d); trap 'rm -r "$$dir"' EXIT; \
	for bench in '^BenchmarkPipeline$$/^conns=1000000$$/^workers=1$$' '^BenchmarkPipeline6$$/^conns=1000000$$/^workers=1$$' '^BenchmarkNewConnections$$/^workers=1$$' '^BenchmarkJoined$$/^stamps=true$$/^conns=1000000$$' '^BenchmarkGuard$$/^ipv[46]$$/^(syn|bad_ack|bad_data)$$'; do \
		case $$bench in *Guard*) times=16000000x;; *) times=4000000x;; esac; \
		$(GO) test -trimpath -run '^$$' -bench "$$bench" -benchtime $$times \
			-o "$$dir/test" -cpuprofile "$$dir/$${bench//[^A-Za-z0-9]}" ./dataplane; \
	done; \
	$(GO) tool pprof -proto -output cmd/fnatd/default.pgo "$$dir"/*Benchmark*

.PHONY: lint
lint:
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt -w $$unformatted"; exit 1; }
	@for f in scripts/*.sh .ci/run; do bash -n $$f; done
	$(GO) vet ./...
	GOARCH=arm64 $(GO) vet ./...
	$(GO) vet -tags man ./cmd/... ./internal/cli

.PHONY: generate
generate:
	@scripts/deps.sh generate
	$(GO) generate ./...

# Where clang 14 cannot be had the comparison is left out, and said so.
.PHONY: check-generated
check-generated:
	@if scripts/deps.sh generate; then \
		$(GO) generate ./...; \
		git diff --exit-code -- $(GENERATED) || { echo 'generated files differ from their source: commit them'; exit 1; }; \
	else \
		echo 'generated files are not compared with their source'; \
	fi

# "make check test" runs the tests once.
.PHONY: check
check: lint check-generated test

# SOURCE_DATE_EPOCH gives the pages the date of the commit that they describe.
.PHONY: man
man: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)
man:
	rm -rf bin/man
	$(GO) run -buildvcs=false -tags man ./cmd/fnatctl man bin/man
	$(GO) run -buildvcs=false -tags man ./cmd/fnatrs man bin/man
	install -m 644 dist/fnatd.8 bin/man

COMPLETIONS := bash-completion/completions/fnatctl zsh/site-functions/_fnatctl fish/vendor_completions.d/fnatctl.fish

.PHONY: completion
completion: build
	for file in $(COMPLETIONS); do \
		install -d bin/completion/$${file%/*}; \
		bin/fnatctl completion $${file%%[-/]*} > bin/completion/$$file; \
	done

.PHONY: install
install: build man completion
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/sbin bin/fnatd bin/fnatctl bin/fnatrs
	install -D -m 644 -t $(DESTDIR)/etc/systemd/system dist/fnatd.service dist/fnatrs.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 bin/man/*.8
	for file in $(COMPLETIONS); do \
		install -D -m 644 bin/completion/$$file $(DESTDIR)$(PREFIX)/share/$$file; \
	done

.PHONY: clean
clean:
	rm -rf bin
