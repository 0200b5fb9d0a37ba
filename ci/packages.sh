# Sourced by the commands of ci/: names the packages each needs on Debian and Ubuntu, and installs what is missing.
# Never CUDA, torch or a browser.   anemo_packages demo|test|arm [--no-install]
# arm: what a cross build for AArch64 needs beside `test`; Debian only, whose archive has all architectures in one place.

anemo_package_list() { # $1 = demo | test | arm
    if [ "$1" = arm ]; then
        echo "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user libgomp1:arm64 libjansson-dev:arm64 libcmocka-dev:arm64"
        return 0
    fi
    echo "gcc libc6-dev cmake make ninja-build pkg-config git libjansson-dev libopenblas-openmp-dev libhwloc-dev libpapi-dev gnuplot-nox"
    [ "$1" = test ] && echo "libcmocka-dev libpcre2-dev libutf8proc-dev python3 ccache"
    # The one version whose output the sources follow; other releases carry others and skip the format check.
    if [ "$1" = test ] && apt-cache show clang-format-14 >/dev/null 2>&1; then echo clang-format-14; fi
    return 0
}

anemo_packages() { # installs what is missing; with --no-install only says so
    local list missing="" p
    if ! command -v dpkg-query >/dev/null 2>&1; then
        echo "packages: not a Debian or Ubuntu system; install by hand: $(anemo_package_list "$1" | tr '\n' ' ')"
        return 0
    fi
    list=$(anemo_package_list "$1" | tr '\n' ' ')
    for p in $list; do
        dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
    done
    echo "packages: $list"
    if [ -z "$missing" ]; then
        echo "packages: all there"
        return 0
    fi
    echo "packages: missing:$missing"
    if [ "${2:-}" = --no-install ]; then
        echo "packages: --no-install was given; install them, or build with fewer (see README, \"Build by hand\")" >&2
        return 6
    fi
    local sudo=""
    [ "$(id -u)" = 0 ] || sudo=sudo
    local log=${TMPDIR:-/tmp}/anemo-apt.log
    if [ "$1" = arm ] && ! dpkg --print-foreign-architectures | grep -qx arm64; then
        if ! grep -qx 'ID=debian' /etc/os-release; then
            echo "packages: this archive has no arm64 packages beside its own; add the architecture by hand" >&2
            return 6
        fi
        echo "packages: adding the architecture arm64 (undo: dpkg --remove-architecture arm64)"
        $sudo dpkg --add-architecture arm64
    fi
    $sudo apt-get -qq update >"$log" 2>&1
    LC_ALL=C apt-get install --assume-no --no-install-recommends $missing 2>/dev/null |
        sed -n 's/^Need to get \(.*\) of archives.*/packages: \1 to download/p; s/^After this operation, \(.*\) of additional.*/packages: \1 on disk/p'
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >>"$log" 2>&1 || {
        tail -n 20 "$log" >&2
        echo "packages: installing failed (log above)" >&2
        return 6
    }
}
