# What the scripts share: packages, hugepages, the toolchain. To be sourced.
# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts that source this use them

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"

# libdpdk and its port drivers, what bindgen and cc need, the allocator, the compiler of etcd's interface, and
# the tools of the testbed.
build_packages=(libdpdk-dev libclang-dev pkg-config gcc libc6-dev make libjemalloc-dev ca-certificates
    protobuf-compiler libprotobuf-dev)
# libfuzzer-sys compiles libFuzzer.
fuzz_packages=(g++)
lab_packages=(iproute2 ethtool util-linux iputils-ping)
# The SIP server, its calls and its media relay; what sees and disturbs their messages.
sip_packages=(kamailio sip-tester rtpengine-daemon tcpdump tshark nftables)
# DPDK's own programs: testpmd, the sources of l3fwd and qos_sched, and what compiles them.
bench_packages=(dpdk-dev dpdk-doc)
test_packages=(tcpdump tshark traceroute shellcheck frr nftables iptables
    dnsmasq-base udhcpc isc-dhcp-client etcd-server etcd-client)
# The browser that the operators' page is tested in, and promtool.
web_packages=(chromium fonts-dejavu-core prometheus)
command -v node >/dev/null && command -v npm >/dev/null || web_packages+=(nodejs npm)

# 2 MiB pages: two routers and a test beside them.
hugepages_wanted=384

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "$(basename "$0"): $*"
    exit 2
}

# Figures that are kept are of a commit that others can build; those kept themselves may be new.
need_clean_tree() {
    local changed
    changed="$(git -C "$root" -c safe.directory='*' status --porcelain -- . ':!bench/results')" ||
        die "bench/results keeps figures of commits, and this is no git repository"
    [ -z "$changed" ] ||
        die "bench/results keeps figures of commits: commit this first:
$changed"
}

need_root() {
    [ "$(id -u)" -eq 0 ] || die "needs root, for network namespaces and hugepages: sudo $0"
}

# Masks a unit, so that the package that brings it does not start it on this machine: the tests run
# its daemons themselves, in namespaces.
keep_from_starting() {
    local unit="/etc/systemd/system/$1"
    if [ -e "$unit" ] || [ -L "$unit" ]; then
        return
    fi
    mkdir -p "$(dirname "$unit")"
    ln -s /dev/null "$unit"
    say "$1 is masked, so it does not run by itself; systemctl unmask $1 undoes that"
}

# Installs the packages among "$@" that are missing.
need_packages() {
    local missing=() package
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        say "this is no Debian: make sure to have what these packages give: $*"
        return
    fi
    for package in "$@"; do
        dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null |
            grep -qx installed || missing+=("$package")
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    for package in "${missing[@]}"; do
        case "$package" in
        frr | kamailio | prometheus | rtpengine-daemon) keep_from_starting "$package.service" ;;
        etcd-server) keep_from_starting etcd.service ;;
        esac
    done
    say "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Another apt-get may hold the lock for minutes, as on a machine that has just started.
    local apt=(apt-get --quiet --option DPkg::Lock::Timeout=600)
    local install=("${apt[@]}" install --yes --no-install-recommends "${missing[@]}")
    "${install[@]}" >&2 || { "${apt[@]}" update >&2 && "${install[@]}" >&2; } ||
        die "cannot install ${missing[*]}"
}

# Raises the number of hugepages where there is memory for them; DPDK goes without otherwise.
reserve_hugepages() {
    local file=/proc/sys/vm/nr_hugepages have available_kib
    have="$(cat "$file" 2>/dev/null || echo 0)"
    available_kib="$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)"
    if [ "$have" -lt "$hugepages_wanted" ]; then
        # No more than a quarter of what is free.
        if [ $((hugepages_wanted * 2048)) -le $((available_kib / 4)) ]; then
            { echo "$hugepages_wanted" >"$file"; } 2>/dev/null || true
        fi
        have="$(cat "$file" 2>/dev/null || echo 0)"
    fi
    if [ "$have" -lt "$hugepages_wanted" ]; then
        say "$have of $hugepages_wanted hugepages: going on with what there is"
    fi
}

# Raises the number of hugepages to "$1", until the script ends. Ends it if there is no memory for them.
borrow_hugepages() {
    local file=/proc/sys/vm/nr_hugepages have
    hugepages_before="$(cat "$file")" || die "this kernel has no hugepages"
    [ "$hugepages_before" -lt "$1" ] || return 0
    trap 'echo "$hugepages_before" >/proc/sys/vm/nr_hugepages' EXIT
    { echo "$1" >"$file"; } 2>/dev/null || true
    have="$(cat "$file")"
    [ "$have" -ge "$1" ] ||
        die "needs $1 hugepages of 2 MiB, and the kernel has memory for $have: free some, or restart the machine"
}

# Runs a program that ends by itself on SIGINT and SIGTERM, and waits for it also then, so that what
# was borrowed is given back after it has ended.
run_to_the_end() {
    local program status=0
    "$@" &
    program=$!
    trap 'kill -TERM "$program" 2>/dev/null || true' INT TERM HUP
    while wait "$program" || status=$?; kill -0 "$program" 2>/dev/null; do
        status=0
    done
    trap - INT TERM HUP
    return "$status"
}

# Finds cargo, also that of the user who called sudo; and has it compile for an older CPU where this
# is one.
need_cargo() {
    if [ "$(uname -m)" = x86_64 ] && ! grep -qw avx2 /proc/cpuinfo; then
        export RUSTFLAGS="${RUSTFLAGS:--C target-cpu=x86-64-v2}"
    fi
    local home
    for home in "$HOME" "$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)"; do
        if ! command -v cargo >/dev/null && [ -x "$home/.cargo/bin/cargo" ]; then
            export PATH="$home/.cargo/bin:$PATH"
            export RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}" CARGO_HOME="${CARGO_HOME:-$home/.cargo}"
        fi
    done
    command -v cargo >/dev/null ||
        die "cargo is missing; get it with: apt-get install -y curl && curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
}

# Builds cargo-nextest where it is missing, or older than .config/nextest.toml asks for.
need_nextest() {
    if ! (cd "$root" && cargo nextest show-config version) >/dev/null 2>&1; then
        say "== cargo-nextest is missing or too old: building it, once"
        cargo install cargo-nextest --locked || die "cannot install cargo-nextest"
    fi
}
