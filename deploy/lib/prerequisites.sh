# Finds out what this machine lacks and installs it: sourced by deploy/demo and tests/run.
# Debian and Ubuntu are installed on; elsewhere it says what to install.
# shellcheck shell=bash

# Where administrators' tools are; a person's own PATH often leaves it out. And where rustup puts cargo.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin"

# Commands, each with the package that has it.
WRIT_RUN_NEEDS=(ip:iproute2 nft:nftables unshare:util-linux setpriv:util-linux mount:mount curl:curl pdftotext:poppler-utils zstd:zstd rsync:rsync)
WRIT_BUILD_NEEDS=(cc:build-essential make:build-essential pkg-config:pkg-config git:git jq:jq)
# What tests need besides.
WRIT_TEST_NEEDS=(openssl:openssl ssh-agent:openssh-client openvpn:openvpn dig:bind9-dnsutils dbus-daemon:dbus-daemon)
# The Kafka broker of the tests: Java runs it, Maven fetches it.
WRIT_BROKER_NEEDS=(java:default-jre-headless mvn:maven)

# Headers that librdkafka is compiled with, each with the package that has it.
WRIT_BUILD_HEADERS=(zlib.h:zlib1g-dev openssl/ssl.h:libssl-dev)

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# as_root COMMAND...: runs it as root, by sudo where need be.
as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "root is needed for: $* (run that as root, then start again)"
    fi
}

# install_packages NAME...: by apt, with its chatter shown only when it fails.
install_packages() {
    command -v apt-get >/dev/null || fail "please install, by the names of Debian's packages: $*"
    echo "installing $*"
    local log
    log=$(mktemp)
    if ! { as_root apt-get update -q &&
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            -o DPkg::Lock::Timeout=120 "$@"; } >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        fail "apt could not install $*"
    fi
    rm -f "$log"
}

# require_commands COMMAND:PACKAGE...: installs the packages of those commands that are missing.
require_commands() {
    local need missing=()
    for need in "$@"; do
        command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
    done
    [[ -e /etc/ssl/certs/ca-certificates.crt || -e /etc/pki/tls/certs/ca-bundle.crt ]] || missing+=(ca-certificates)
    [[ ${#missing[@]} -eq 0 ]] && return
    mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
    install_packages "${missing[@]}"
    for need in "$@"; do
        command -v "${need%%:*}" >/dev/null || fail "${need%%:*} is still missing after installing ${need#*:}"
    done
}

# require_headers HEADER:PACKAGE...: installs the packages of those C headers that the compiler does not find.
require_headers() {
    local need missing=()
    for need in "$@"; do
        echo "#include <${need%%:*}>" | cc -E -x c - >/dev/null 2>&1 || missing+=("${need#*:}")
    done
    [[ ${#missing[@]} -eq 0 ]] || install_packages "${missing[@]}"
}

# The oldest Rust that builds the workspace, from its manifest.
wanted_rust() {
    sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$WRIT_ROOT/Cargo.toml"
}

# has_rust [COMPONENT...]: cargo is new enough, and the components are there.
has_rust() {
    local have component
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2) || return 1
    [[ -n $have ]] || return 1
    [[ $(printf '%s\n' "$(wanted_rust)" "$have" | sort -V | head -n1) == "$(wanted_rust)" ]] || return 1
    for component in "$@"; do
        cargo "$component" --version >/dev/null 2>&1 || return 1
    done
}

# require_rust [fmt] [clippy]: a Rust toolchain with these components.
require_rust() {
    has_rust "$@" && return
    command -v rustup >/dev/null || install_rustup
    local wanted
    wanted=$(wanted_rust)
    echo "installing Rust $wanted"
    rustup toolchain install "$wanted" --no-self-update --profile minimal \
        --component clippy --component rustfmt >/dev/null ||
        fail "rustup could not install Rust $wanted"
    export RUSTUP_TOOLCHAIN=$wanted
    has_rust "$@" || fail "Rust $wanted was installed but $(command -v cargo || echo cargo) does not work"
}

# From the distribution, where it has it (Ubuntu 24.04, Debian 13); otherwise the project's own installer, whose
# digest is checked.
install_rustup() {
    if command -v apt-cache >/dev/null && [[ $(LC_ALL=C apt-cache policy rustup) == *'Candidate: '[0-9]* ]]; then
        install_packages rustup
        return
    fi
    local base directory
    base="https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu"
    echo "installing rustup from $base"
    directory=$(mktemp -d)
    curl --fail --silent --show-error --location --proto '=https' --output "$directory/rustup-init" "$base/rustup-init" &&
        curl --fail --silent --show-error --location --proto '=https' --output "$directory/sha256" "$base/rustup-init.sha256" &&
        [[ $(sha256sum <"$directory/rustup-init" | cut -d' ' -f1) == "$(cut -d' ' -f1 "$directory/sha256")" ]] ||
        fail "rustup could not be downloaded unaltered; install Rust $(wanted_rust) or newer from https://rustup.rs and start again"
    chmod +x "$directory/rustup-init"
    "$directory/rustup-init" -y --quiet --no-modify-path --profile minimal --default-toolchain none >/dev/null ||
        fail "rustup's installer failed"
    rm -rf "$directory"
}

# require_venv: Python with virtual environments, in which tests install what others wrote.
require_venv() {
    python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
    install_packages python3 python3-venv
    python3 -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' ||
        fail "please install Python 3.11 or newer with its modules venv and ensurepip"
}

# wanted_go MODULE: the oldest Go that builds a module, from its manifest.
wanted_go() {
    sed -n 's/^go *//p' "$1/go.mod"
}

# has_go MODULE: go is new enough. Since 1.21 it fetches what a manifest asks for by itself, unless it is told not to.
has_go() {
    local have
    have=$(cd "$1" && go version 2>/dev/null) || return 1
    have=${have#go version go}
    have=${have%% *}
    [[ -n $have && $(printf '%s\n' "$(wanted_go "$1")" "$have" | sort -V | head -n1) == "$(wanted_go "$1")" ]]
}

# require_go [MODULE]: a Go toolchain for a module, by default that of the verifiers of others. Distributions have older ones, but
# any Go can fetch a newer one: it is a module, and its digest is checked against Go's checksum database as every module's is.
require_go() {
    local for=${1:-$WRIT_ROOT/tests/interop} version directory
    has_go "$for" && return
    command -v go >/dev/null || install_packages golang-go ca-certificates
    has_go "$for" && return
    version=$(wanted_go "$for")
    directory=${XDG_CACHE_HOME:-$HOME/.cache}/writ/go$version
    [[ -x $directory/bin/go ]] || fetch_go "$version" "$directory"
    export PATH="$directory/bin:$PATH" GOTOOLCHAIN=local
    hash -r
    has_go "$for" || fail "Go $version was installed to $directory but does not work; install Go $version or newer and start again"
}

# fetch_go VERSION DIRECTORY: unpacks the module golang.org/toolchain. In a module no file can be executable, and no
# folder inside may have a go.mod: both are set right here.
fetch_go() {
    local version=$1 directory=$2 architecture module fetched
    case $(uname -m) in
        x86_64) architecture=amd64 ;;
        aarch64) architecture=arm64 ;;
        *) fail "please install Go $version or newer" ;;
    esac
    module=golang.org/toolchain@v0.0.1-go$version.linux-$architecture
    echo "installing Go $version"
    fetched=$(cd / && GO111MODULE=on GOTOOLCHAIN=local go mod download -json "$module" | jq -r '.Dir // empty') &&
        [[ -n $fetched ]] || fail "go could not download $module; install Go $version or newer and start again"
    rm -rf "$directory.new"
    mkdir -p "$(dirname "$directory")"
    cp -r "$fetched" "$directory.new"
    chmod -R u+w "$directory.new"
    chmod +x "$directory.new"/bin/* "$directory.new"/pkg/tool/*/*
    find "$directory.new" -name _go.mod -execdir mv _go.mod go.mod ';'
    rm -rf "$directory"
    mv "$directory.new" "$directory"
}

# require_resolved: systemd-resolved for the tests. Where it is not installed it is unpacked beside, since installing it would
# take over this machine's own resolver.
require_resolved() {
    [[ -x /usr/lib/systemd/systemd-resolved ]] && return
    local directory=${XDG_CACHE_HOME:-$HOME/.cache}/writ/systemd-resolved package
    [[ -x $directory/usr/bin/resolvectl ]] && return
    command -v apt-get >/dev/null || fail "please install systemd-resolved"
    echo "unpacking systemd-resolved to $directory"
    rm -rf "$directory.new"
    mkdir -p "$directory.new/packages"
    as_root apt-get update -q >/dev/null || fail "apt could not be brought up to date"
    (cd "$directory.new/packages" && apt-get download -q systemd-resolved libsystemd-shared >/dev/null 2>&1) ||
        fail "apt could not download systemd-resolved"
    for package in "$directory.new"/packages/*.deb; do
        dpkg-deb -x "$package" "$directory.new"
    done
    rm -rf "$directory.new/packages"
    # Debian 12 has programs of the system in /lib.
    [[ -d $directory.new/lib ]] && cp -r "$directory.new/lib/." "$directory.new/usr/lib"
    mv "$directory.new" "$directory"
}

# Where cargo puts what it builds, whatever decided that.
target_directory() {
    cargo metadata --manifest-path "$WRIT_ROOT/Cargo.toml" --format-version 1 --no-deps | jq -r .target_directory
}
