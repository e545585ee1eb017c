#!/usr/bin/env bash
# run.sh - installs what is missing, builds, and shows cellgate at work: three simulated cells, signed
# events on the terminal, health and metrics by curl.
#
#   bash run.sh                 until Ctrl-C
#   bash run.sh --for SECONDS   ends by itself, then verifies what was exported and says so
set -euo pipefail
cd "$(dirname "$0")"
. ./packages.sh

seconds=
case "${1:-}" in
    "") ;;
    --for) seconds=${2:?"--for needs a number of seconds"} ;;
    *) echo "usage: bash run.sh [--for SECONDS]" >&2; exit 64 ;;
esac

# shellcheck disable=SC2086
install_packages $BUILD_PACKAGES

echo "== building" >&2
mkdir -p build
cmake --preset release >build/cmake-release.log || { cat build/cmake-release.log >&2; exit 1; }
cmake --build build/release 2>&1 | tail -n 1 >&2
cellgate=$PWD/build/release/cellgate

work=$(mktemp -d "${TMPDIR:-/tmp}/cellgate-XXXXXX")
gateway= guests= viewer=

# Everything started here is stopped here, whatever ends the script.
clean_up() {
    trap - EXIT INT TERM
    for child in $guests $gateway; do
        kill "$child" 2>/dev/null || true
    done
    # shellcheck disable=SC2086
    wait $guests $gateway 2>/dev/null || true
    [ -z "$viewer" ] || kill "$viewer" 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'echo >&2; echo "== stopping" >&2; exit 0' INT TERM

"$cellgate" keygen --kid quickstart --out "$work" >/dev/null

# A port that is taken must not stop a first look: then the kernel picks one.
listen=127.0.0.1:9464
if (exec 3<>/dev/tcp/127.0.0.1/9464) 2>/dev/null; then
    listen=127.0.0.1:0
fi

"$cellgate" run --config config/quickstart.yaml \
    --set state_dir="$work/state" --set spool.dir="$work/spool" \
    --set signing.key_file="$work/quickstart.key" --set http.listen="$listen" \
    --set ingress.cells.cell-0.vsock_uds_base="$work/cell-0.vsock" \
    --set ingress.cells.cell-1.vsock_uds_base="$work/cell-1.vsock" \
    --set ingress.cells.cell-2.vsock_uds_base="$work/cell-2.vsock" \
    >"$work/events.jsonl" 2>"$work/gateway.log" &
gateway=$!

url=
for _ in $(seq 100); do
    address=$(sed -n 's/.*event=http_listening.* address=\([^ ]*\).*/\1/p' "$work/gateway.log" 2>/dev/null)
    if [ -n "$address" ] && curl -fsS -o /dev/null "http://$address/readyz" 2>/dev/null; then
        url=http://$address
        break
    fi
    kill -0 "$gateway" 2>/dev/null || break
    sleep 0.1
done
if [ -z "$url" ]; then
    echo "the gateway did not become ready:" >&2
    cat "$work/gateway.log" >&2
    exit 1
fi

"$cellgate" send --socket "$work/cell-%d.vsock" --cells 3 --rate 3 --duration 24h \
    --input config/quickstart-frames.jsonl >/dev/null 2>&1 &
guests=$!

cat >&2 <<EOF

cellgate is running with three simulated cells; their signed events follow.

  curl $url/readyz?verbose
  curl $url/healthz
  curl $url/metrics

  log    $work/gateway.log
  events $work/events.jsonl
  verify $cellgate verify --keys $work/quickstart.keys.json --gaps $work/events.jsonl

EOF
tail -n +1 -f "$work/events.jsonl" &
viewer=$!

if [ -z "$seconds" ]; then
    echo "Ctrl-C stops it." >&2
    wait "$gateway"
    exit
fi

sleep "$seconds"
kill "$guests" 2>/dev/null || true
wait "$guests" 2>/dev/null || true
guests=
kill -TERM "$gateway"
status=0
wait "$gateway" || status=$?
gateway=
kill "$viewer" 2>/dev/null || true
viewer=
echo >&2
echo "== the gateway stopped with status $status; verifying what it exported" >&2
"$cellgate" verify --keys "$work/quickstart.keys.json" --gaps "$work/events.jsonl" >"$work/verdicts"
events=$(grep -c '^ok' "$work/verdicts" || true)
if [ "$status" != 0 ] || [ "$events" = 0 ]; then
    cat "$work/gateway.log" >&2
    exit 1
fi
echo "== $events events verified: every signature good, no sequence missing" >&2
