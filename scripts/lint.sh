#!/usr/bin/env bash
# Format, vet, golangci-lint (.golangci.yml), go.mod, and the limits that no
# linter knows. golangci-lint is built once from source, in about a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/setup.sh
need_go

GOLANGCI_LINT_VERSION=v2.15.0
MAX_FILE_LINES=400

# fails says: what is wrong, and goes on, so that one run shows everything.
status=0
fails() {
    echo "lint: $1" >&2
    status=1
}

# need_linter builds the pinned golangci-lint into .cache.
need_linter() {
    linter=$PWD/.cache/golangci-lint-$GOLANGCI_LINT_VERSION/golangci-lint
    [[ ! -x $linter ]] || return 0
    echo "building golangci-lint $GOLANGCI_LINT_VERSION"
    GOFLAGS='' GOBIN=$(dirname "$linter") CGO_ENABLED=0 \
        go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_LINT_VERSION" 2> >(grep -v '^go: downloading' >&2)
}

mapfile -t sources < <(git ls-files --cached --others --exclude-standard '*.go')
mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)

unformatted=$(gofmt -l "${sources[@]}") || status=1
[[ -z $unformatted ]] || fails "not formatted (gofmt -w): $unformatted"
for script in "${scripts[@]}"; do
    bash -n "$script" || fails "$script: syntax error"
done
for file in "${sources[@]}"; do
    [[ -e $file && $file != *_test.go ]] || continue
    lines=$(wc -l <"$file")
    ((lines <= MAX_FILE_LINES)) || fails "$file: $lines lines, at most $MAX_FILE_LINES"
done

go vet ./... || fails "go vet"
go mod tidy -diff || fails "go.mod: run go mod tidy"
need_linter
"$linter" run ./... || fails "golangci-lint"
exit "$status"
