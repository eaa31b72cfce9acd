# Every target is one or two commands that can be typed by hand as well.

STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME   ?= 10s

.PHONY: all build test race fuzz real site-demo campaign mutants torture recovery bench bench-long lint ci clean

all: lint test build

build:
	go build -o bin/postrider ./cmd/postrider

test:
	go test ./...

race:
	go test -race ./...

# Each fuzz target searches for FUZZTIME. Their seeds run in "make test" as well.
fuzz:
	@for dir in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -rn1 dirname | sort -u); do \
		for target in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$dir/*_test.go | cut -d' ' -f2); do \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$dir || exit 1; \
		done; \
	done

# The tests with real programs: one that is not installed is a failure.
real:
	POSTRIDER_REAL=required go test -count=1 ./internal/e2e

# A site of two domains in use by real clients, with Dovecot, a smart host and a
# dead destination. Wants root and what "bash .ci/run packages" installs.
site-demo:
	POSTRIDER_REAL=required go test -count=1 -v -run '^TestSiteDemo$$' ./internal/e2e

# Worlds of five days in which nothing that was acknowledged may be lost: a hundred
# thousand of them, or eight hours. Stopped, it goes on where it was.
# It runs what was committed when it began, whatever becomes of the files since;
# "rm bin/campaign.test" lets it go on with the commit of now.
CAMPAIGN ?= campaign.json
CAMPAIGN_FOR ?= 8h
campaign: bin/campaign.test
	nice -n 19 bin/campaign.test -test.run '^TestCampaign$$' -test.timeout 0 -campaign=$(abspath $(CAMPAIGN)) -commit=$$(cat bin/campaign.commit) -seeds=100000 -for=$(CAMPAIGN_FOR) -shrink=0

bin/campaign.test:
	rm -rf bin/campaign && mkdir -p bin/campaign
	git rev-parse HEAD > bin/campaign.commit
	git archive $$(cat bin/campaign.commit) | tar -x -C bin/campaign
	cd bin/campaign && go test -c -o ../campaign.test ./internal/sim
	rm -rf bin/campaign

# Small wrong edits of the code, put in one by one: each must be found.
mutants:
	go run ./internal/mutants

# The real binary, killed a thousand times under load. Stopped, it goes on where it was.
KILLS ?= 1000
torture:
	POSTRIDER_KILLS=$(KILLS) POSTRIDER_KILLS_LOG=$(abspath kills.json) go test -count=1 -timeout 0 -v -run '^TestTortureCampaign$$' ./internal/e2e

# How long a start takes with so many messages in the queue, and how much memory.
QUEUED ?= 0,100000,1000000
recovery:
	POSTRIDER_RECOVERY=$(QUEUED) go test -count=1 -timeout 0 -v -run '^TestRecoveryTimes$$' ./internal/e2e

# Postrider beside the servers that ".ci/run packages" has unpacked, in under a
# quarter of an hour: docs/performance.md. BENCH=-docs writes the results there.
BENCH ?=
bench:
	go run ./bench/run $(BENCH)

# The same with a million deferred messages and an hour of mixed traffic.
bench-long:
	go run ./bench/run -long $(BENCH)

lint:
	bash .ci/run format
	go vet ./...
	go run $(STATICCHECK) ./...

# What a submission must pass. Installs Debian packages, so it wants root.
ci:
	bash .ci/run

clean:
	rm -rf bin
	go clean -testcache
