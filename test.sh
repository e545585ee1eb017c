#!/usr/bin/env bash
# test.sh - installs what is missing, builds with sanitizers, runs every test.
#
#   bash test.sh            everything
#   bash test.sh --quick    the debug build and its tests, without the TSan and clang builds
#   bash test.sh --long     the same as without, and the fault scenarios in full, on the release binary
set -euo pipefail
cd "$(dirname "$0")"
. ./packages.sh

quick=no long=no
case ${1:-} in
    "") ;;
    --quick) quick=yes ;;
    --long) long=yes ;;
    *) echo "usage: bash test.sh [--quick|--long]" >&2; exit 64 ;;
esac

# shellcheck disable=SC2086
install_packages $BUILD_PACKAGES $TEST_PACKAGES

echo "== Python environment"
python=build/venv/bin/python
if ! cmp -s tests/requirements.txt build/venv/installed.txt; then
    rm -rf build/venv
    mkdir -p build
    python3 -m venv build/venv
    $python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
    cp tests/requirements.txt build/venv/installed.txt
fi

echo "== Kafka broker"
jars=build/kafka
if ! cmp -s tests/support/kafka/pom.xml $jars/installed.xml; then
    rm -rf $jars
    if mvn -q -B -f tests/support/kafka/pom.xml -Djars="$PWD/$jars" dependency:copy-dependencies; then
        cp tests/support/kafka/pom.xml $jars/installed.xml
    else
        rm -rf $jars
        echo "no jars of Kafka to be had: the tests use the mock cluster of librdkafka instead" >&2
    fi
fi

build() { # preset
    echo "== build: $1"
    cmake --preset "$1" -DCELLGATE_PYTHON="$PWD/$python" >build/cmake-"$1".log ||
        { cat build/cmake-"$1".log; exit 1; }
    cmake --build build/"$1" 2>&1 | tail -n 40
}

run_tests() { # preset, further arguments of ctest
    preset=$1
    shift
    ctest --test-dir build/"$preset" --output-on-failure --no-tests=error -j"$(nproc)" "$@"
}

export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1

# The fault scenarios, and what became of the events in each.
run_faults() { # preset, binary
    figures=$PWD/build/$1/fault-figures.txt
    rm -f "$figures"
    failed=0
    CELLGATE_BINARY=$2 run_tests "$1" -R '^fault/' || failed=$?
    [ ! -f "$figures" ] || { echo "== faults"; sort "$figures"; }
    return $failed
}

if [ $quick = no ]; then
    build clang
    build release
    build tsan
    run_tests tsan -R '^(unit|flow)/'
fi
build debug
if [ $long = yes ]; then
    CELLGATE_LONG=1 run_faults debug "$PWD/build/release/cellgate"
fi
run_faults debug ""
run_tests debug -E '^fault/'
