#define _GNU_SOURCE
#include "clock.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { POLL_NS = 40 * 1000, QUIET_NS = 250 * 1000 };

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void parse_pids(const char *list, int *pids, int *n)
{
    *n = 0;
    while (*list != '\0' && *list != '-' && *n < MAX_PIDS) {
        char *end;
        pids[(*n)++] = (int)strtol(list, &end, 10);
        list = *end == ',' ? end + 1 : end;
    }
}

static uint64_t cpu_of(const int *pids, int n)
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++) {
        struct timespec t;
        clockid_t clock;
        if (clock_getcpuclockid(pids[i], &clock) == 0 && clock_gettime(clock, &t) == 0)
            sum += (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }
    return sum;
}

uint64_t cpu_ns(const struct processes *p)
{
    return cpu_of(p->counted, p->n_counted);
}

/* R, S, D, T, ... from /proc/PID/stat: a process that was preempted is R, not idle. */
static char state_of(int pid)
{
    char path[32], text[256];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 'X';
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 'X';
    text[n] = '\0';
    const char *end = strrchr(text, ')');
    return end != NULL && end[1] == ' ' ? end[2] : 'X';
}

static bool any_runs(const int *pids, int n)
{
    for (int i = 0; i < n; i++) {
        char state = state_of(pids[i]);
        if (state == 'R' || state == 'D')
            return true;
    }
    return false;
}

static void pause_ns(long ns)
{
    struct timespec t = {0, ns};
    nanosleep(&t, NULL);
}

void wait_until_quiet(const struct processes *p, uint64_t deadline)
{
    uint64_t last = 0, since = now_ns();
    for (;;) {
        pause_ns(POLL_NS);
        uint64_t used = cpu_ns(p) + cpu_of(p->watched, p->n_watched), now = now_ns();
        if (used != last) {
            last = used;
            since = now;
        } else if (now - since >= QUIET_NS && !any_runs(p->counted, p->n_counted)
                   && !any_runs(p->watched, p->n_watched)) {
            return;
        }
        if (now > deadline)
            return;
    }
}

void stop_processes(const struct processes *p)
{
    for (int i = 0; i < p->n_counted; i++)
        kill(p->counted[i], SIGSTOP);
    for (int i = 0; i < p->n_counted; i++)
        for (int tries = 0; tries < 1000 && state_of(p->counted[i]) != 'T'; tries++)
            pause_ns(POLL_NS);
}

void continue_processes(const struct processes *p)
{
    for (int i = 0; i < p->n_counted; i++)
        kill(p->counted[i], SIGCONT);
}
