#!/usr/bin/env bash
# The forwarding loop, ours and one on DPDK that does less, turn by turn, with medians and ratios.
#
#   benches/peers/forward.sh [ROUNDS] [FRAMES..]     5 rounds with 256, 4096 and 16384 frames in flight
#
# Ours is the whole of `Router::process` with a cluster's 5,110 routes; DPDK's is benches/peers/forward.c. 60-byte frames, one
# thread, processor time. Wants Debian's libdpdk-dev, pkg-config and gcc; no huge pages, no devices, any uid.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5}
shift || true
[ $# -gt 0 ] || set -- 256 4096 16384
pkg-config --exists libdpdk || { echo "libdpdk-dev is not installed" >&2; exit 2; }

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# shellcheck disable=SC2046
gcc -O3 -march=native -o "$dir/forward" benches/peers/forward.c $(pkg-config --cflags libdpdk) \
    -lrte_eal -lrte_fib -lrte_rib -lrte_mempool -lrte_mbuf -lrte_ring -lrte_net
cargo build -q --profile bench -p benches --bin forward_peer
ours=${CARGO_TARGET_DIR:-target}/release/forward_peer

grep -m1 'model name' /proc/cpuinfo || true
for frames in "$@"; do
    for _ in $(seq "$rounds"); do
        "$ours" "$frames"
        "$dir/forward" "$frames" fib
        "$dir/forward" "$frames" none
    done | awk -v frames="$frames" '
        { rate[$1] = rate[$1] " " $2; if ($3 != frames) lost = 1 }
        function median(list, n, v, i, j, t) {
            n = split(list, v, " ")
            for (i = 2; i <= n; i++) for (j = i; j > 1 && v[j] + 0 < v[j-1] + 0; j--) { t = v[j]; v[j] = v[j-1]; v[j-1] = t }
            return v[int((n + 1) / 2)]
        }
        END {
            if (lost) { print frames, "NOT EVERY FRAME CAME OUT"; exit 1 }
            ours = median(rate["ours"])
            printf "%6d frames  ours %6.2f Mpps   dpdk-fib %6.2f (ours / theirs %.2f)   its rings alone %7.2f\n", frames, ours,
                median(rate["dpdk-fib"]), ours / median(rate["dpdk-fib"]), median(rate["dpdk-rings"])
        }'
done
