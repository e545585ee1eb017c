# packages.sh - what cellgate needs from Debian 12; sourced by run.sh and test.sh.

BUILD_PACKAGES="gcc cmake ninja-build pkg-config libmicrohttpd-dev libcurl4-openssl-dev libcbor-dev
  libssl-dev libsodium-dev libcjson-dev libyaml-dev zlib1g-dev libzstd-dev libsystemd-dev
  libnats-dev libnftables-dev libprotobuf-c-dev librdkafka-dev libseccomp-dev protobuf-c-compiler ca-certificates
  curl"
TEST_PACKAGES="check clang-14 clang-tidy-14 clang-format-14 libclang-rt-14-dev python3 python3-venv
  libnghttp2-dev prometheus git procps nftables iproute2 systemd nats-server openjdk-17-jre-headless maven"

# Installs what is missing of the packages named; says what to do where it may not.
install_packages() {
    missing=""
    for package in "$@"; do
        case $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) in
            installed) ;;
            *) missing="$missing $package" ;;
        esac
    done
    [ -z "$missing" ] && return 0
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages, install them as root: apt-get install$missing" >&2
        return 1
    fi
    echo "== installing:$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    # shellcheck disable=SC2086
    apt-get install -y -qq --no-install-recommends $missing >&2
}
