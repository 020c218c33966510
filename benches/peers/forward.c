/*
 * The peers' side of forward.sh: a forwarding loop on DPDK, from one ring to another, with as many frames in flight as the
 * first argument says. Per frame: EtherType, version and header length, header checksum, route (rte_fib), TTL with its
 * checksum, both MACs. No neighbour, no source validation, no counters, no drop reasons: less than a router does.
 *
 * Prints its name, million packets a second of processor time, and how many were forwarded in the last pass.
 *
 *   forward FRAMES fib|none     none: the rings alone
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ether.h>
#include <rte_fib.h>
#include <rte_ip.h>
#include <rte_mbuf.h>
#include <rte_ring.h>

#define BATCH 64
#define SECONDS 0.3
#define MISS 0x7fff
#define PEERS 5000
#define PODS 110
/* A frame lives so many passes before its TTL is set again. */
#define LIFE 200

static const struct rte_ether_addr own = { { 2, 0, 0, 0, 0, 1 } };

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, rte_strerror(rte_errno));
	exit(1);
}

/* 5,000 podCIDRs of peers, 110 pods: the table of benches/src/lib.rs. */
static struct rte_fib *cluster(void)
{
	struct rte_fib_conf conf = {
		.type = RTE_FIB_DIR24_8,
		.default_nh = MISS,
		.max_routes = 1 << 16,
		.dir24_8 = { .nh_sz = RTE_FIB_DIR24_8_2B, .num_tbl8 = 1 << 12 },
	};
	struct rte_fib *fib = rte_fib_create("cluster", SOCKET_ID_ANY, &conf);
	uint32_t i;

	if (fib == NULL)
		die("rte_fib_create");
	for (i = 0; i < PEERS; i++)
		if (rte_fib_add(fib, 0x0a000000 + (i << 8), 24, 1) != 0)
			die("rte_fib_add");
	for (i = 0; i < PODS; i++)
		if (rte_fib_add(fib, 0x0aff0002 + i, 32, 2) != 0)
			die("rte_fib_add");
	return fib;
}

static void reset(struct rte_mbuf *m, uint32_t i)
{
	struct rte_ether_hdr *eth = rte_pktmbuf_mtod(m, struct rte_ether_hdr *);
	struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);

	memset(eth, 0, 60);
	eth->dst_addr = own;
	eth->ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	ip->version_ihl = 0x45;
	ip->total_length = rte_cpu_to_be_16(46);
	ip->time_to_live = 250;
	ip->next_proto_id = 17;
	ip->src_addr = rte_cpu_to_be_32(0x0aff0002);
	ip->dst_addr = rte_cpu_to_be_32(0x0a000007 + ((i * 19 % PEERS) << 8));
	ip->hdr_checksum = rte_ipv4_cksum(ip);
}

static unsigned int forward(struct rte_fib *fib, struct rte_mbuf **frames, unsigned int n)
{
	uint32_t dst[BATCH];
	uint64_t hops[BATCH];
	unsigned int i, good = 0;

	for (i = 0; i < n; i++) {
		struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frames[i], struct rte_ether_hdr *);
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
		int ok = eth->ether_type == rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4) && ip->version_ihl == 0x45 &&
			ip->time_to_live > 1 && rte_ipv4_cksum(ip) == 0;

		dst[i] = ok ? rte_be_to_cpu_32(ip->dst_addr) : 0;
	}
	rte_fib_lookup_bulk(fib, dst, hops, n);
	for (i = 0; i < n; i++) {
		struct rte_ether_hdr *eth = rte_pktmbuf_mtod(frames[i], struct rte_ether_hdr *);
		struct rte_ipv4_hdr *ip = (struct rte_ipv4_hdr *)(eth + 1);
		uint32_t sum;

		if (hops[i] == MISS)
			continue;
		ip->time_to_live--;
		sum = ip->hdr_checksum + rte_cpu_to_be_16(0x0100);
		ip->hdr_checksum = sum + (sum >> 16);
		eth->dst_addr = own;
		eth->src_addr = own;
		good++;
	}
	return good;
}

int main(int argc, char **argv)
{
	char *eal[] = { "forward", "--no-huge", "--no-pci", "--no-shconf", "--no-telemetry", "-m", "256",
			"--log-level=error", "-l", "0" };
	struct rte_ring *from, *to;
	struct rte_mempool *pool;
	struct rte_fib *fib = NULL;
	unsigned int frames, i, good = 0;
	uint64_t passed = 0, passes = 0;
	double began, took = 0;
	const char *name;

	if (argc != 3 || (frames = atoi(argv[1])) == 0) {
		fprintf(stderr, "usage: forward FRAMES fib|none\n");
		return 2;
	}
	if (rte_eal_init(RTE_DIM(eal), eal) < 0)
		die("rte_eal_init");
	pool = rte_pktmbuf_pool_create("frames", frames, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	from = rte_ring_create("from", rte_align32pow2(frames + 1), SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	to = rte_ring_create("to", rte_align32pow2(frames + 1), SOCKET_ID_ANY, RING_F_SP_ENQ | RING_F_SC_DEQ);
	if (pool == NULL || from == NULL || to == NULL)
		die("frames and rings");
	if (strcmp(argv[2], "fib") == 0)
		fib = cluster();
	name = fib == NULL ? "dpdk-rings" : "dpdk-fib";
	for (i = 0; i < frames; i++) {
		struct rte_mbuf *m = rte_pktmbuf_alloc(pool);

		if (m == NULL)
			die("rte_pktmbuf_alloc");
		rte_pktmbuf_append(m, 60);
		reset(m, i);
		rte_ring_enqueue(from, m);
	}
	began = now();
	do {
		struct rte_mbuf *batch[BATCH];
		struct rte_ring *other;
		unsigned int n;

		good = 0;
		while ((n = rte_ring_dequeue_burst(from, (void **)batch, BATCH, NULL)) > 0) {
			good += fib == NULL ? n : forward(fib, batch, n);
			if (fib != NULL && passes % LIFE == LIFE - 1)
				for (i = 0; i < n; i++)
					reset(batch[i], passed + i);
			rte_ring_enqueue_burst(to, (void **)batch, n, NULL);
			passed += n;
		}
		other = from;
		from = to;
		to = other;
		passes++;
		took = now() - began;
	} while (took < SECONDS);
	printf("%s %.2f %u\n", name, passed / took / 1e6, good);
	return good == frames ? 0 : 1;
}
