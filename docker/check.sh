#!/usr/bin/env bash
# check.sh - checks docker/Dockerfile on a machine without a container engine: carries out its
# instructions in fresh Debian 12 roots, then runs the result as its user, without capabilities, on a
# read-only root, with docker/cellgate.yaml.
#
#   bash docker/check.sh            as root, on Debian; takes minutes and says how many
#
# It needs the network for Debian's packages, from where the machine itself has them (MIRROR and
# SECURITY_MIRROR name others), about 1.5 GB in TMPDIR, and leaves nothing behind. It knows the instructions that the Dockerfile uses and
# refuses any other, so that none is passed over unnoticed.
set -euo pipefail
cd "$(dirname "$0")/.."
. ./packages.sh

own_mirror() { # codename
    apt-get indextargets --format '$(REPO_URI)' 'Origin: Debian' "Codename: $1" | sort -u | head -n 1
}
mirror=${MIRROR:-$(own_mirror bookworm)}
security=${SECURITY_MIRROR:-$(own_mirror bookworm-security)}

say() { echo "== $*" >&2; }
fail() { echo "check.sh: $*" >&2; exit 1; }

[ -n "$mirror" ] && [ -n "$security" ] || fail "no source of Debian's packages: set MIRROR and SECURITY_MIRROR"
[ "$(id -u)" = 0 ] || fail "must be root, to make a root file system and to enter it"
install_packages debootstrap python3 util-linux binutils

work=$(mktemp -d "${TMPDIR:-/tmp}/cellgate-docker-XXXXXX")
gateway= receiver=
clean_up() {
    trap - EXIT INT TERM
    for child in $gateway $receiver; do
        kill "$child" 2>/dev/null || true
        wait "$child" 2>/dev/null || true
    done
    # Mounts are made in namespaces of their own; should one have escaped, spare what it shows.
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Runs a command in a root with an engine's environment; the mounts go with the command. Under the
# same process id: what is started in the background is what $! names.
in_root() { # root, command...
    # shellcheck disable=SC2016
    exec unshare --mount sh -euc '
        root=$1; shift
        for tree in proc sys dev; do mount --rbind "/$tree" "$root/$tree"; done
        exec env -i HOME=/root \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" "$@"
    ' sh "$@"
}

# --- the instructions ---

declare -A stages=()  # name -> root
root= workdir=/ user= runs=

make_root() { # new root
    mkdir "$1"
    cp -a "$work/base/." "$1/"
}

do_from() { # image [AS name]
    [ "$1" = debian:bookworm-slim ] || fail "FROM $1: only debian:bookworm-slim is known here"
    root=$work/${3:-image} workdir=/ user=
    make_root "$root"
    [ -z "${3:-}" ] || stages[$3]=$root
}

do_run() { # command line
    [ -z "$user" ] || fail "RUN after USER is not known here"
    say "RUN $1"
    runs+=" $1"
    mkdir -p "$root$workdir"
    (in_root "$root" sh -c "cd $workdir && $1") >"$work/run.log" 2>&1 ||
        { tail -n 40 "$work/run.log" >&2; fail "RUN failed"; }
}

do_copy() { # [--from=stage] source... destination
    local from=. source target
    case $1 in
        --from=*) from=${stages[${1#--from=}]:?"COPY $1: no such stage"}; shift ;;
        --*) fail "COPY $1 is not known here" ;;
    esac
    local destination=${*: -1}
    case $destination in /*) ;; *) destination=$workdir/$destination ;; esac
    for source in "${@:1:$#-1}"; do
        if [ "$from" = . ]; then
            grep -qxF "!${source#./}" .dockerignore || fail "COPY $source: .dockerignore keeps it out"
        fi
        target=$root$destination
        if [ -d "$from/$source" ]; then
            mkdir -p "$target"
            cp -r --preserve=mode "$from/$source/." "$target/"
        else
            case $destination in */ | */.) target=$target/$(basename "$source") ;; esac
            mkdir -p "$(dirname "$target")"
            cp --preserve=mode "$from/$source" "$target"
        fi
    done
}

do_instruction() { # one logical line
    local name rest
    read -r name rest <<<"$1"
    case $name in
        # shellcheck disable=SC2086
        FROM) do_from $rest ;;
        RUN) do_run "$rest" ;;
        # shellcheck disable=SC2086
        COPY) do_copy $rest ;;
        WORKDIR) workdir=$rest; mkdir -p "$root$workdir" ;;
        USER) user=$rest ;;
        LABEL | VOLUME | EXPOSE | STOPSIGNAL | HEALTHCHECK | ENTRYPOINT | CMD) ;;
        *) fail "the instruction $name is not known here" ;;
    esac
}

do_dockerfile() {
    local line whole=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '#'* | '') continue ;; esac
        case $line in
            *\\) whole+="${line%\\} "; continue ;;
        esac
        do_instruction "$whole$line" </dev/null
        whole=
    done <docker/Dockerfile
}

# --- what came out ---

# The packages named in the runtime stage are those of the libraries linked, and the authorities.
check_libraries() {
    local named library owner needed=ca-certificates
    named=$(sed -n 's/.*--no-install-recommends\([a-z0-9. +-]*\)&&.*/\1/p' <<<"$runs" |
        tr -s ' ' '\n' | sed '/^$/d' | sort)
    if (in_root "$root" ldd /usr/local/bin/cellgate) | grep 'not found'; then
        fail "libraries are missing in the image"
    fi
    for library in $(objdump -p "$root/usr/local/bin/cellgate" | awk '$1 == "NEEDED" { print $2 }'); do
        owner=$(dpkg --root="$root" -S "*/$library" | head -n 1 | cut -d: -f1)
        [ "$owner" = libc6 ] || needed+=" $owner"
    done
    needed=$(tr ' ' '\n' <<<"$needed" | sort -u)
    [ "$named" = "$needed" ] ||
        fail "the runtime stage names other packages than the program needs:
$(diff <(echo "$named") <(echo "$needed"))"
    say "libraries: every one is there, by the $(wc -l <<<"$named") packages named"
}

# Starts a command as the engine would: the image's user, no capability, none to be had, a root that
# is read-only but for the volumes and /tmp.
as_container() { # command...
    # shellcheck disable=SC2016
    exec unshare --mount sh -euc '
        work=$1 root=$2 user=$3; shift 3
        mount --bind "$root" "$root"
        mount --rbind /proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --bind "$work/state" "$root/var/lib/cellgate"
        mount --bind "$work/control" "$root/run/cellgate"
        mount --bind "$work/vm" "$root/run/vm"
        mount -t tmpfs -o size=16m,mode=1777 tmpfs "$root/tmp"
        mount -o remount,bind,ro "$root"
        exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
            chroot "$root" setpriv --reuid "${user%:*}" --regid "${user#*:}" --clear-groups \
            --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
    ' sh "$work" "$root" "$user" "$@"
}

# In the collector's place: takes POSTs of single events, writes one a line, prints its port.
start_receiver() {
    cat >"$work/receiver.py" <<'PYTHON'
import http.server, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        single = self.headers["Content-Type"].startswith("application/cloudevents+json")
        if single:
            events.write(body + b"\n")
            events.flush()
        self.send_response(200 if single and self.path == "/events" else 400)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass

events = open(sys.argv[1], "wb")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
PYTHON
    : >"$work/port"
    python3 "$work/receiver.py" "$work/events.jsonl" >"$work/port" &
    receiver=$!
    wait_for "the receiver" test -s "$work/port"
}

wait_for() { # what, command...
    local what=$1
    shift
    for _ in $(seq 150); do
        "$@" && return
        sleep 0.2
    done
    tail -n 20 "$work"/*.log >&2
    fail "waited 30 s in vain for $what"
}

ready() {
    address=$(sed -n 's/.*event=http_listening.* address=[^ ]*:\([0-9]*\).*/\1/p' "$work/gateway.log")
    [ -n "$address" ] || return
    (as_container /usr/local/bin/cellgate-ready 127.0.0.1 "$address") >"$work/ready.log" 2>&1
}

delivered() { [ "$(wc -l <"$work/events.jsonl")" -ge "$1" ]; }

check_running() {
    local status=0
    # As an engine fills a new volume: with the owner and mode of the directory in the image.
    cp -a "$root/var/lib/cellgate" "$work/state"
    cp -a "$root/run/cellgate" "$work/control"
    cp -a "$root/run/vm" "$work/vm"
    install -D -m 0644 docker/cellgate.yaml "$root/etc/cellgate/cellgate.yaml"
    say "version: $( (as_container /usr/local/bin/cellgate version) | head -n 1)"
    # /var/tmp is everybody's, but for the read-only root.
    (as_container sh -c '! touch /var/tmp/x 2>/dev/null && cd /var/lib/cellgate &&
        touch x /run/cellgate/x /run/vm/x /tmp/x && rm x /run/cellgate/x /run/vm/x') || fail "what should be writable is not, or more is"

    start_receiver
    (as_container /usr/local/bin/cellgate keygen --kid check --out /var/lib/cellgate) >"$work/keygen.log"
    (as_container /usr/local/bin/cellgate run --config /etc/cellgate/cellgate.yaml \
        --set http.listen=127.0.0.1:0 --set signing.mode=ed25519 --set signing.kid=check \
        --set signing.key_file=/var/lib/cellgate/check.key \
        --set exporters.collector.url="http://127.0.0.1:$(cat "$work/port")/events") \
        2>"$work/gateway.log" &
    gateway=$!
    wait_for "the gateway to be ready" ready
    say "running as $(ps -o uid=,gid= -p "$gateway" | tr -s ' '), health check: $(cat "$work/ready.log")"
    (as_container /usr/local/bin/cellgate send --socket /run/vm/cell-%d.vsock --cells 2 --frames 50) >&2
    wait_for "100 events at the receiver" delivered 100
    (as_container /usr/local/bin/cellgate cell add come --run r --hash sha256:2 --base /run/vm/come) >&2
    (as_container /usr/local/bin/cellgate send --socket /run/vm/come --frames 10) >&2
    (as_container /usr/local/bin/cellgate cell rm come --wait 20s) >&2
    (as_container /usr/local/bin/cellgate status) >&2
    [ ! -e "$work/vm/come_9001" ] || fail "the socket of a cell that went is still there"
    wait_for "110 events at the receiver" delivered 110
    kill -TERM "$gateway"
    wait "$gateway" || status=$?
    gateway=
    [ "$status" = 0 ] || { tail -n 20 "$work/gateway.log" >&2; fail "the gateway ended with $status"; }
    say "SIGTERM: ended with status 0; verifying what arrived"
    cp "$work/events.jsonl" "$work/state/"
    (as_container /usr/local/bin/cellgate verify --keys /var/lib/cellgate/check.keys.json --gaps \
        /var/lib/cellgate/events.jsonl) 2>&1 >"$work/verdicts" | sed 's/^/   /' >&2
    [ "$(grep -c '^ok' "$work/verdicts")" -ge 110 ] || fail "not every event was good"
}

say "a fresh Debian 12"
debootstrap --variant=minbase bookworm "$work/base" "$mirror" >"$work/debootstrap.log" ||
    { tail -n 20 "$work/debootstrap.log" >&2; fail "debootstrap failed"; }
cat >"$work/base/etc/apt/sources.list" <<SOURCES
deb $mirror bookworm main
deb $mirror bookworm-updates main
deb $security bookworm-security main
SOURCES
cp /etc/resolv.conf "$work/base/etc/resolv.conf"

do_dockerfile
[ -n "$user" ] && [ "${user%%:*}" != 0 ] && [ "$user" != root ] || fail "the image would run as root"
check_libraries
check_running
size=$(du -sm --apparent-size "$root" | cut -f1)
base_size=$(du -sm --apparent-size "$work/base" | cut -f1)
say "good, in $SECONDS s; the image is $((size - base_size)) MB more than its base"
