#!/usr/bin/env bash
# Route look-ups of ours and of DPDK, turn by turn, with medians and ratios. Nothing here is built or run by cargo alone.
#
#   benches/peers/run.sh [ROUNDS] [FAMILY-TABLE..]     5 rounds of ipv4-cluster ipv4-internet ipv6-cluster ipv6-internet
#
# Wants Debian's libdpdk-dev, pkg-config and gcc; no huge pages, no devices, any uid. One round is about a second per mix.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5}
shift || true
[ $# -gt 0 ] || set -- ipv4-cluster ipv4-internet ipv6-cluster ipv6-internet
mixes=${MIXES:-rand cov pfx zipf seq hot few miss}
pkg-config --exists libdpdk || { echo "libdpdk-dev is not installed" >&2; exit 2; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# shellcheck disable=SC2046
gcc -O3 -march=native -o "$dir/peers" benches/peers/lpm.c $(pkg-config --cflags libdpdk) \
    -lrte_eal -lrte_fib -lrte_lpm -lrte_rib
cargo build -q --profile bench -p benches --bin lpm_peer
ours=${CARGO_TARGET_DIR:-target}/release/lpm_peer
"$ours" dump "$dir"

grep -m1 'model name' /proc/cpuinfo || true
for what in "$@"; do
    [ -e "$dir/$what.routes" ] || { echo "SKIPPED $what: no data"; continue; }
    for mix in $mixes; do
        for _ in $(seq "$rounds"); do
            "$ours" run "$dir" "${what%-*}" "${what#*-}" "$mix"
            "$dir/peers" "$dir" "${what%-*}" "${what#*-}" "$mix" ${ALL:+all}
        done | awk -v what="$what" -v mix="$mix" '
            { rate[$1] = rate[$1] " " $2; if (sum == "") sum = $3; if ($3 != sum) wrong = 1 }
            function median(list, n, v, i, j, t) {
                n = split(list, v, " ")
                for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] + 0 < v[j-1] + 0; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
                return v[int((n + 1) / 2)]
            }
            END {
                if (wrong) { print what, mix, "THE ANSWERS DIFFER"; exit 1 }
                line = sprintf("%-14s %-5s ours %7.1f M/s", what, mix, ours = median(rate["ours"]))
                for (who in rate) if (who != "ours") line = line sprintf("   %s %7.1f (ours / theirs %.2f)", who, m = median(rate[who]), ours / m)
                print line
            }'
    done
done
