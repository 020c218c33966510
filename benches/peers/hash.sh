#!/usr/bin/env bash
# The table of connections, ours and DPDK's rte_hash, turn by turn, with medians and ratios, in CPU time of the process.
#
#   benches/peers/hash.sh [ROUNDS] [KEYS..]     5 rounds with 1,000,000 and 10,000,000 keys
#   HUGE=1 benches/peers/hash.sh                DPDK takes huge pages, of which vm.nr_hugepages has to have 600; ours asks for
#                                               transparent ones in any case
#
# Look-ups of keys that are there, 64 at a time. Wants Debian's libdpdk-dev, pkg-config and gcc; no devices, any uid.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5}
shift || true
[ $# -gt 0 ] || set -- 1000000 10000000
pkg-config --exists libdpdk || { echo "libdpdk-dev is not installed" >&2; exit 2; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# shellcheck disable=SC2046
gcc -O3 -march=native -o "$dir/hash" benches/peers/hash.c $(pkg-config --cflags libdpdk) -lrte_eal -lrte_hash
cargo build -q --profile bench -p benches --bin flow_peer
ours=${CARGO_TARGET_DIR:-target}/release/flow_peer

grep -m1 'model name' /proc/cpuinfo || true
for keys in "$@"; do
    for _ in $(seq "$rounds"); do
        "$ours" "$keys"
        "$dir/hash" "$keys"
    done | awk -v keys="$keys" '
        { rate[$1] = rate[$1] " " $2; if (sum == "") sum = $3; if ($3 != sum) wrong = 1 }
        function median(list, n, v, i, j, t) {
            n = split(list, v, " ")
            for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] + 0 < v[j-1] + 0; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
            return v[int((n + 1) / 2)]
        }
        END {
            if (wrong) { print keys, "WHAT WAS FOUND DIFFERS"; exit 1 }
            ours = median(rate["ours"]); theirs = median(rate["rte_hash"])
            printf "%9d keys  ours %6.2f M/s   rte_hash %6.2f (ours / theirs %.2f)\n", keys, ours, theirs, ours / theirs
        }'
done
