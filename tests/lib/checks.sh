# Sourced by the scripts that check things: `check "what" command args…` runs the command and says whether it held,
# `skip "what" "why"` says that it was not looked at, `finish` prints the totals and ends the script.
# shellcheck shell=sh

checks_passed=0 checks_failed=0 checks_skipped=0

check() {
    checks_what=$1
    shift
    if "$@"; then
        checks_passed=$((checks_passed + 1))
        echo "ok      $checks_what"
    else
        checks_failed=$((checks_failed + 1))
        echo "FAILED  $checks_what"
    fi
}

skip() {
    checks_skipped=$((checks_skipped + 1))
    echo "skipped $1: $2"
}

finish() {
    echo "$checks_passed passed, $checks_failed failed, $checks_skipped skipped"
    [ "$checks_failed" -eq 0 ]
    exit
}
