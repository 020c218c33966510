/* What the thread sanitizer does not know of a Rust program, told to it: fences, and the standard library's locks.
 *
 * The sanitizer's run-time library takes a fence for nothing, and the standard library as it is shipped is compiled without
 * instrumentation, so both would look like missing order. scripts/sanitize links this file in and has the linker send the
 * calls here first (--wrap). Nothing is hidden and nothing assumed: each function below does what it stands for, then tells
 * the sanitizer the order that the memory model or the library's documentation promises, and no other.
 *
 * Fences (C11 7.17.4, which Rust has taken over):
 * - a release fence, then a relaxed store of the same thread: whoever reads that value and acquires, by the load itself or
 *   by a fence later, comes behind the fence;
 * - a load that does not acquire, then an acquire fence: comes behind whoever released what was loaded.
 * So each release fence takes a place of its own, which a thread's later stores carry along in a table
 * (address -> place) until another store takes their address, and each thread keeps what its loads have to acquire when a
 * fence comes. The order in which sequentially consistent fences stand adds values to that, not order of other memory:
 * that is loom's to check.
 *
 * Cost: a spinning lock per atomic operation. For tests. */
#include <sched.h>
#include <stdint.h>
#include <string.h>

typedef enum { RELAXED, CONSUME, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST } Order;

void __tsan_acquire(void *);
void __tsan_release(void *);

/* Fences of a thread whose places are told apart. A store from before that carries a younger fence: less is found then. */
#define PLACES 256
/* Threads whose places are told apart. They outlive their threads. */
#define THREADS 1024
static uint64_t places[THREADS][PLACES];

/* Loads that wait for a fence. */
#define LOADS 512

static __thread struct {
    uint64_t *places;
    unsigned fences;
    void *load[LOADS];
    unsigned loads;
} self;

static void *last_place(void) { return &self.places[(self.fences - 1) % PLACES]; }

/* The table: buckets of a few addresses each. */
#define BUCKETS (1u << 18)
#define WAYS 16
static struct Bucket {
    int lock;
    const volatile void *address[WAYS];
    void *place[WAYS];
} table[BUCKETS];

static struct Bucket *lock(const volatile void *address) {
    uint64_t hash = ((uintptr_t)address >> 2) * 0x9e3779b97f4a7c15u;
    struct Bucket *bucket = &table[hash >> 46];
    while (__atomic_exchange_n(&bucket->lock, 1, __ATOMIC_ACQUIRE))
        sched_yield();
    return bucket;
}

static void unlock(struct Bucket *bucket) { __atomic_store_n(&bucket->lock, 0, __ATOMIC_RELEASE); }

static int acquires(Order order) { return order == CONSUME || order == ACQUIRE || order >= ACQ_REL; }
static int releases(Order order) { return order >= RELEASE; }

/* After a load, the bucket locked. */
static void loaded(struct Bucket *bucket, const volatile void *address, Order order) {
    void *place = 0;
    for (int n = 0; n < WAYS; n++)
        if (bucket->address[n] == address)
            place = bucket->place[n];
    if (acquires(order)) {
        if (place)
            __tsan_acquire(place);
        return;
    }
    self.load[self.loads++ % LOADS] = (void *)address;
    if (place)
        self.load[self.loads++ % LOADS] = place;
}

/* After a store, the bucket locked. A read-modify-write goes on with what was released before it. */
static void stored(struct Bucket *bucket, const volatile void *address, Order order, int is_rmw) {
    void *place = 0;
    int way = -1;
    if (!releases(order) && self.fences)
        place = last_place();
    if (!place && is_rmw)
        return;
    for (int n = 0; n < WAYS; n++) {
        if (bucket->address[n] == address) {
            way = n;
            break;
        }
        if (way < 0 && !bucket->address[n])
            way = n;
    }
    if (way < 0)
        way = 0;
    if (place) {
        bucket->address[way] = address;
        bucket->place[way] = place;
    } else if (bucket->address[way] == address) {
        bucket->address[way] = 0;
    }
}

void __real___tsan_atomic_thread_fence(int order);
void __wrap___tsan_atomic_thread_fence(int order) {
    __real___tsan_atomic_thread_fence(order);
    if (acquires(order)) {
        unsigned n = self.loads < LOADS ? self.loads : LOADS;
        while (n)
            __tsan_acquire(self.load[--n]);
        self.loads = 0;
    }
    if (releases(order)) {
        static unsigned threads;
        if (!self.places)
            self.places = places[__atomic_fetch_add(&threads, 1, __ATOMIC_RELAXED) % THREADS];
        self.fences++;
        __tsan_release(last_place());
    }
}

#define RMW(bits, type, op)                                                                                             \
    type __real___tsan_atomic##bits##_##op(volatile type *, type, int);                                                 \
    type __wrap___tsan_atomic##bits##_##op(volatile type *at, type value, int order) {                                  \
        struct Bucket *bucket = lock(at);                                                                               \
        type before = __real___tsan_atomic##bits##_##op(at, value, order);                                              \
        loaded(bucket, at, order);                                                                                      \
        stored(bucket, at, order, 1);                                                                                   \
        unlock(bucket);                                                                                                 \
        return before;                                                                                                  \
    }

#define ATOMIC(bits, type)                                                                                              \
    type __real___tsan_atomic##bits##_load(const volatile type *, int);                                                 \
    type __wrap___tsan_atomic##bits##_load(const volatile type *at, int order) {                                        \
        struct Bucket *bucket = lock(at);                                                                               \
        type value = __real___tsan_atomic##bits##_load(at, order);                                                      \
        loaded(bucket, at, order);                                                                                      \
        unlock(bucket);                                                                                                 \
        return value;                                                                                                   \
    }                                                                                                                   \
    void __real___tsan_atomic##bits##_store(volatile type *, type, int);                                                \
    void __wrap___tsan_atomic##bits##_store(volatile type *at, type value, int order) {                                 \
        struct Bucket *bucket = lock(at);                                                                               \
        __real___tsan_atomic##bits##_store(at, value, order);                                                           \
        stored(bucket, at, order, 0);                                                                                   \
        unlock(bucket);                                                                                                 \
    }                                                                                                                   \
    type __real___tsan_atomic##bits##_compare_exchange_val(volatile type *, type, type, int, int);                      \
    type __wrap___tsan_atomic##bits##_compare_exchange_val(volatile type *at, type expected, type value, int order,     \
                                                           int failed) {                                                \
        struct Bucket *bucket = lock(at);                                                                               \
        type before = __real___tsan_atomic##bits##_compare_exchange_val(at, expected, value, order, failed);            \
        loaded(bucket, at, before == expected ? order : failed);                                                        \
        if (before == expected)                                                                                         \
            stored(bucket, at, order, 1);                                                                               \
        unlock(bucket);                                                                                                 \
        return before;                                                                                                  \
    }                                                                                                                   \
    RMW(bits, type, exchange)                                                                                           \
    RMW(bits, type, fetch_add)                                                                                          \
    RMW(bits, type, fetch_sub)                                                                                          \
    RMW(bits, type, fetch_and)                                                                                          \
    RMW(bits, type, fetch_or)                                                                                           \
    RMW(bits, type, fetch_xor)                                                                                          \
    RMW(bits, type, fetch_nand)

ATOMIC(8, uint8_t)
ATOMIC(16, uint16_t)
ATOMIC(32, uint32_t)
ATOMIC(64, uint64_t)

/* The standard library. scripts/sanitize gives the names, which carry the compiler's version: std::sys::sync's futex locks. */
#define CAT2(a, b) a##b
#define CAT(a, b) CAT2(a, b)
#define REAL(name) CAT(__real_, name)
#define WRAP(name) CAT(__wrap_, name)

/* Mutex::lock, when somebody has it. Taking a free one, and unlocking, is compiled into the caller. */
void REAL(LOCK_CONTENDED)(void *mutex);
void WRAP(LOCK_CONTENDED)(void *mutex) {
    REAL(LOCK_CONTENDED)(mutex);
    __tsan_acquire(mutex);
}

/* Condvar::wait gives the mutex away and takes it again. */
void REAL(CONDVAR_WAIT)(void *condvar, void *mutex);
void WRAP(CONDVAR_WAIT)(void *condvar, void *mutex) {
    __tsan_release(mutex);
    REAL(CONDVAR_WAIT)(condvar, mutex);
    __tsan_acquire(mutex);
}

/* The same, with a Duration. */
_Bool REAL(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds);
_Bool WRAP(CONDVAR_WAIT_TIMEOUT)(void *condvar, void *mutex, uint64_t seconds, uint32_t nanoseconds) {
    __tsan_release(mutex);
    _Bool in_time = REAL(CONDVAR_WAIT_TIMEOUT)(condvar, mutex, seconds, nanoseconds);
    __tsan_acquire(mutex);
    return in_time;
}

/* A scoped thread has ended: std::thread::scope waits until this counter, the first word or the second, says that all
 * have, without joining them. */
void REAL(SCOPE_DECREMENT)(uint64_t *scope, _Bool panicked);
void WRAP(SCOPE_DECREMENT)(uint64_t *scope, _Bool panicked) {
    for (int word = 0; word < 3; word++)
        __tsan_release(&scope[word]);
    REAL(SCOPE_DECREMENT)(scope, panicked);
}
