#!/bin/sh
# Sees to the PostgreSQL and MariaDB servers, and the browser, that the tests start for themselves.
set -eu
cd "$(dirname "$0")"

installed() {
    for program in "$@"; do
        command -v "$program" >/dev/null && return 0
        for path in /usr/lib/postgresql/*/bin /opt/homebrew/opt/*/bin /usr/local/opt/*/bin /usr/sbin \
            /Applications/*.app/Contents/MacOS; do
            [ -x "$path/$program" ] && return 0
        done
    done
    return 1
}

need() { # name, variable, Debian package, Homebrew formula, programs...
    name=$1 variable=$2 debian=$3 homebrew=$4
    shift 4
    eval "address=\${$variable:-}"
    if [ -n "$address" ] || installed "$@"; then
        return
    fi
    package=$debian
    command -v apt-get >/dev/null || package=$homebrew
    sh install-packages.sh "$package" && installed "$@" && return
    echo "The tests need $name: install it (Debian: $debian, Homebrew: $homebrew)," \
        "or name one that they may use with $variable." >&2
    exit 1
}

need PostgreSQL CITYSORT_TEST_POSTGRESQL_URL postgresql postgresql initdb
need MariaDB CITYSORT_TEST_MYSQL_URL mariadb-server mariadb mariadbd mysqld
need Chromium CITYSORT_TEST_CHROMIUM chromium-headless-shell chromium chromium-headless-shell chromium chromium-browser google-chrome
