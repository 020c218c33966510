/*
 * The peers' side of run.sh: DPDK's rte_fib, rte_fib6 and rte_lpm on the tables and destinations that `lpm_peer dump`
 * wrote. Prints, for each, its name, million look-ups a second, and the sum of the answers.
 *
 *   lpm-peers DIR FAMILY TABLE MIX [all]      all: rte_lpm on the large table too (about a minute to fill)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_fib.h>
#include <rte_fib6.h>
#include <rte_lpm.h>

#define BATCH 64
#define SECONDS 0.3
/* No next hop: as large as two bytes of which DPDK keeps one bit for itself allow. */
#define MISS 0x7fff

static double now(void)
{
	struct timespec t;

	/* Time on the processor: what others take of it does not count. */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

static unsigned char *slurp(const char *dir, const char *name, const char *suffix, size_t *size)
{
	char path[4096];
	unsigned char *bytes;
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s%s", dir, name, suffix);
	file = fopen(path, "rb");
	if (file == NULL) {
		perror(path);
		exit(1);
	}
	fseek(file, 0, SEEK_END);
	*size = ftell(file);
	rewind(file);
	bytes = malloc(*size + 1);
	if (bytes == NULL || fread(bytes, 1, *size, file) != *size) {
		fprintf(stderr, "%s: cannot be read\n", path);
		exit(1);
	}
	fclose(file);
	return bytes;
}

static void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, rte_strerror(rte_errno));
	exit(1);
}

static uint32_t be32(const unsigned char *b)
{
	return (uint32_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
}

typedef void (*lookup_fn)(void *table, const void *queries, size_t first, unsigned int n, uint64_t *hops);

static void fib_lookup(void *table, const void *queries, size_t first, unsigned int n, uint64_t *hops)
{
	rte_fib_lookup_bulk(table, (uint32_t *)queries + first, hops, n);
}

static void fib6_lookup(void *table, const void *queries, size_t first, unsigned int n, uint64_t *hops)
{
	rte_fib6_lookup_bulk(table, (uint8_t(*)[RTE_FIB6_IPV6_ADDR_SIZE])queries + first, hops, n);
}

static void lpm_lookup(void *table, const void *queries, size_t first, unsigned int n, uint64_t *hops)
{
	uint32_t found[BATCH];

	rte_lpm_lookup_bulk(table, (const uint32_t *)queries + first, found, n);
	memcpy(hops, found, n * sizeof(found[0]));
}

static void measure(const char *name, lookup_fn lookup, void *table, const void *queries, size_t count, int is_lpm)
{
	uint64_t hops[BATCH], sum = 0, rounds = 0;
	double began, took;
	size_t at;
	unsigned int i, n;

	for (at = 0; at < count; at += n) {
		n = count - at < BATCH ? count - at : BATCH;
		lookup(table, queries, at, n, hops);
		for (i = 0; i < n; i++) {
			uint64_t hop = is_lpm ? ((uint32_t *)hops)[i] : hops[i];

			if (is_lpm)
				hop = hop & RTE_LPM_LOOKUP_SUCCESS ? hop & 0xffffff : MISS;
			sum += hop == MISS ? 0 : hop;
		}
	}
	began = now();
	do {
		for (at = 0; at + BATCH <= count; at += BATCH) {
			lookup(table, queries, at, BATCH, hops);
			__asm__ volatile("" : : "r"(hops) : "memory");
		}
		rounds++;
		took = now() - began;
	} while (took < SECONDS);
	printf("%s %.1f %lu\n", name, rounds * (double)(count / BATCH * BATCH) / took / 1e6, (unsigned long)sum);
}

static void ipv4(const char *dir, const char *table, const char *mix, int with_lpm)
{
	size_t size, count, i;
	char name[256];
	unsigned char *routes, *bytes;
	uint32_t *queries;
	struct rte_fib_conf conf = {
		.type = RTE_FIB_DIR24_8, .default_nh = MISS, .max_routes = 1 << 20,
		.dir24_8 = { .nh_sz = RTE_FIB_DIR24_8_2B, .num_tbl8 = 32767 },
	};
	struct rte_lpm_config lpm_conf = { .max_rules = 1 << 20, .number_tbl8s = 1 << 15 };
	struct rte_fib *fib;
	int vector;

	snprintf(name, sizeof(name), "ipv4-%s-%s", table, mix);
	bytes = slurp(dir, name, ".queries", &size);
	count = size / 4;
	queries = malloc(count * sizeof(*queries));
	for (i = 0; i < count; i++)
		queries[i] = be32(bytes + 4 * i);
	snprintf(name, sizeof(name), "ipv4-%s", table);
	routes = slurp(dir, name, ".routes", &size);

	fib = rte_fib_create("fib", 0, &conf);
	if (fib == NULL)
		die("rte_fib_create");
	for (i = 0; i + 7 <= size; i += 7)
		if (rte_fib_add(fib, be32(routes + i), routes[i + 4], routes[i + 5] << 8 | routes[i + 6]) != 0)
			die("rte_fib_add");
	vector = rte_fib_select_lookup(fib, RTE_FIB_LOOKUP_DIR24_8_VECTOR_AVX512) == 0;
	measure(vector ? "rte_fib-avx512" : "rte_fib-scalar", fib_lookup, fib, queries, count, 0);
	rte_fib_free(fib);

	if (with_lpm || strcmp(table, "cluster") == 0) {
		struct rte_lpm *lpm = rte_lpm_create("lpm", 0, &lpm_conf);

		if (lpm == NULL)
			die("rte_lpm_create");
		for (i = 0; i + 7 <= size; i += 7)
			if (rte_lpm_add(lpm, be32(routes + i), routes[i + 4], routes[i + 5] << 8 | routes[i + 6]) != 0)
				die("rte_lpm_add");
		measure("rte_lpm", lpm_lookup, lpm, queries, count, 1);
		rte_lpm_free(lpm);
	}
}

static void ipv6(const char *dir, const char *table, const char *mix)
{
	size_t size, i;
	char name[256];
	unsigned char *routes, *queries;
	struct rte_fib6_conf conf = {
		.type = RTE_FIB6_TRIE, .default_nh = MISS, .max_routes = 1 << 18,
		.trie = { .nh_sz = RTE_FIB6_TRIE_4B, .num_tbl8 = 1 << 19 },
	};
	struct rte_fib6 *fib;
	size_t queries_size;
	int vector;

	snprintf(name, sizeof(name), "ipv6-%s-%s", table, mix);
	queries = slurp(dir, name, ".queries", &queries_size);
	snprintf(name, sizeof(name), "ipv6-%s", table);
	routes = slurp(dir, name, ".routes", &size);
	fib = rte_fib6_create("fib6", 0, &conf);
	if (fib == NULL)
		die("rte_fib6_create");
	for (i = 0; i + 19 <= size; i += 19)
		if ((rte_errno = -rte_fib6_add(fib, routes + i, routes[i + 16], routes[i + 17] << 8 | routes[i + 18])) != 0)
			die("rte_fib6_add");
	vector = rte_fib6_select_lookup(fib, RTE_FIB6_LOOKUP_TRIE_VECTOR_AVX512) == 0;
	measure(vector ? "rte_fib6-avx512" : "rte_fib6-scalar", fib6_lookup, fib, queries, queries_size / 16, 0);
}

int main(int argc, char **argv)
{
	char *eal[] = { argv[0], "--no-huge", "-m", "2048", "--no-pci", "--no-telemetry", "--no-shconf", "-l", "0",
			"--force-max-simd-bitwidth=512", "--log-level=error" };

	if (argc < 5) {
		fprintf(stderr, "usage: %s DIR FAMILY TABLE MIX [all]\n", argv[0]);
		return 2;
	}
	if (rte_eal_init(RTE_DIM(eal), eal) < 0)
		die("rte_eal_init");
	if (strcmp(argv[2], "ipv4") == 0)
		ipv4(argv[1], argv[3], argv[4], argc > 5);
	else
		ipv6(argv[1], argv[3], argv[4]);
	rte_eal_cleanup();
	return 0;
}
