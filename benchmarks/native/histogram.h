/* Latencies in a histogram whose buckets are 1/32 wide: quantiles without keeping every value. */
#pragma once
#include <stdint.h>
#include <string.h>

enum { STEPS = 32, BUCKETS = 60 * STEPS };

struct histogram {
    uint64_t counts[BUCKETS], total;
};

static inline void histogram_clear(struct histogram *h)
{
    memset(h, 0, sizeof *h);
}

static inline int histogram_bucket(uint64_t ns)
{
    if (ns < 2 * STEPS)
        return (int)ns;
    int shift = 63 - __builtin_clzll(ns) - 5;
    return shift * STEPS + (int)(ns >> shift);
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    h->counts[histogram_bucket(ns)]++;
    h->total++;
}

static inline double histogram_quantile_ms(const struct histogram *h, double q)
{
    uint64_t seen = 0, wanted = (uint64_t)(q * (double)h->total);
    for (int i = 0; i < BUCKETS; i++) {
        seen += h->counts[i];
        if (seen > wanted) {
            int shift = i < 2 * STEPS ? 0 : i / STEPS - 1;
            return (double)((uint64_t)(i - shift * STEPS) << shift) / 1e6;
        }
    }
    return 0;
}
