/* Time, and the CPU time of the processes that are measured. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define MAX_PIDS 16

/* `counted` is what a server is charged for; `watched` (Redis) must be idle too before it is done. */
struct processes {
    int counted[MAX_PIDS], watched[MAX_PIDS];
    int n_counted, n_watched;
};

uint64_t now_ns(void);
void parse_pids(const char *list, int *pids, int *n);
uint64_t cpu_ns(const struct processes *p);

/* Returns once no process has used CPU time for a while and all of them sleep: the server is done. */
void wait_until_quiet(const struct processes *p, uint64_t deadline);

void stop_processes(const struct processes *p);
void continue_processes(const struct processes *p);
