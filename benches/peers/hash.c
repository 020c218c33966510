/*
 * The peers' side of hash.sh: DPDK's rte_hash, look-ups of keys that are there, 64 at a time.
 *
 *   hash-peer KEYS       prints its name, million look-ups a second, and the sum of the values of one round
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>

#define BATCH 64
#define ASKED (1 << 20)
#define SECONDS 0.3

struct key {
	uint64_t words[2];
};

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

static uint64_t mixed(uint64_t n)
{
	uint64_t z = n * 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static struct key key(uint64_t n)
{
	struct key k = { { mixed(2 * n + 1), mixed(2 * n + 2) } };

	return k;
}

int main(int argc, char **argv)
{
	/* The processor that the caller has pinned this to; huge pages where there are some (vm.nr_hugepages). */
	char core[16];
	char *pages = getenv("HUGE") != NULL ? "--in-memory" : "--no-huge";
	char *eal[] = { argv[0], pages, "-m", "1200", "--no-pci", "--no-telemetry", "-l", core, "--log-level=error" };
	struct rte_hash_parameters parameters = { 0 };
	const void *keys[BATCH];
	void *values[BATCH];
	struct rte_hash *hash;
	struct key *asked;
	uint64_t count, done = 0, sum, found, i, j;
	double begin, spent;

	if (argc != 2 || (count = strtoull(argv[1], NULL, 10)) == 0) {
		fprintf(stderr, "usage: hash-peer KEYS\n");
		return 2;
	}
	snprintf(core, sizeof(core), "%d", sched_getcpu());
	if (rte_eal_init(RTE_DIM(eal), eal) < 0)
		die("rte_eal_init");
	parameters.name = "connections";
	/* At ours' load of four keys for five places. */
	parameters.entries = count + count / 4;
	parameters.key_len = sizeof(struct key);
	parameters.hash_func = rte_hash_crc;
	parameters.socket_id = SOCKET_ID_ANY;
	hash = rte_hash_create(&parameters);
	if (hash == NULL)
		die("rte_hash_create");
	for (i = 0; i < count; i++) {
		struct key k = key(i);

		if (rte_hash_add_key_data(hash, &k, (void *)i) < 0)
			die("rte_hash_add_key_data");
	}
	asked = malloc(ASKED * sizeof(*asked));
	for (i = 0; i < ASKED; i++)
		asked[i] = key(mixed(i ^ 0x5eed) % count);
	begin = now();
	do {
		sum = 0;
		for (i = 0; i < ASKED; i += BATCH) {
			for (j = 0; j < BATCH; j++)
				keys[j] = &asked[i + j];
			rte_hash_lookup_bulk_data(hash, keys, BATCH, &found, values);
			for (j = 0; j < BATCH; j++)
				sum += found >> j & 1 ? (uint64_t)values[j] : 0;
		}
		done += ASKED;
		spent = now() - begin;
	} while (spent < SECONDS);
	printf("rte_hash %.2f %llu\n", done / spent / 1e6, (unsigned long long)sum);
	return 0;
}
