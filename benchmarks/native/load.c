/* The load: holds the clients of one server, and does what it is told on stdin, a line at a time.

   open PORT COUNT IN_FLIGHT
                      connect members, room after room, and wait until each is told "ready"
   mute PORT COUNT    connect members of the first room that never read again
   cost BATCHES WINDOW DEPTH STOPPED
                      send WINDOW messages and wait until the server is done with them, BATCHES
                      times; read after every DEPTH of them, while the server has nothing to do;
                      STOPPED: the server is stopped while they are sent, so that it finds them all
   speed SECONDS WINDOW
                      keep WINDOW messages under way
   rate PER_SECOND SECONDS
                      send on a schedule; latencies count from the time a message was due
   close              say goodbye to all

   Every command is answered with one line of JSON. In between, pings are answered. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "client.h"
#include "clock.h"
#include "ledger.h"

#define SECOND 1000000000ull

enum { MAX_CLIENTS = 100000, EVENTS = 512, STDIN = -1 };
static const uint64_t PATIENCE = 20 * SECOND; /* with a batch, or with goodbyes */
static const uint64_t SILENCE = 2 * SECOND;   /* after which what has not come is lost */

static struct client clients[MAX_CLIENTS];
static int n_clients, n_members, n_unexpected;
static struct processes processes;
static struct dialect dialect;
static struct ledger ledger;
static int poller;
static uint64_t turn; /* whose turn it is to send */

static void listen_to(int fd, int id, int op, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.u32 = (uint32_t)id};
    epoll_ctl(poller, op, fd, &e);
}

/* Read whatever is there within `timeout` ms; returns how many connections had something. */
static int pump(int timeout, bool *command)
{
    struct epoll_event events[EVENTS];
    int handled = 0, n = epoll_wait(poller, events, EVENTS, timeout);
    for (int i = 0; i < n; i++) {
        if (events[i].data.u32 == (uint32_t)STDIN) {
            if (command != NULL)
                *command = true;
            continue;
        }
        struct client *c = &clients[events[i].data.u32];
        handled++;
        if (c->phase == CLOSED)
            continue;
        if (c->phase == CONNECTING) {
            listen_to(c->fd, (int)(c - clients), EPOLL_CTL_MOD, EPOLLIN);
            client_connected(c, &dialect);
            continue;
        }
        enum phase before = c->phase;
        client_read(c, &dialect, &ledger);
        if (c->phase == READY && before != READY && c->mute)
            epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
        if (c->phase == CLOSED)
            n_unexpected++;
    }
    return handled;
}

static void send_next(uint64_t at)
{
    int sender = ledger_sender(&ledger, turn++);
    struct client *c = &clients[ledger_client(&ledger, sender)];
    if (!client_send(c, &dialect, &ledger, sender, at))
        n_unexpected++;
}

static void begin(void)
{
    ledger_clear_counts(&ledger);
    n_unexpected = 0;
}

/* `wall` and `cpu` in ns. */
static void answer(uint64_t wall, uint64_t cpu)
{
    printf("{\"wall_ns\":%llu,\"cpu_ns\":%llu,\"deliveries\":%llu,\"lost\":%llu,\"doubled\":%llu,"
           "\"missing\":%llu,\"broken\":%llu,\"dropped\":%d,\"bytes\":%llu,\"p50_ms\":%.4f,\"p99_ms\":%.4f}\n",
           (unsigned long long)wall, (unsigned long long)cpu, (unsigned long long)ledger.deliveries,
           (unsigned long long)ledger.lost, (unsigned long long)ledger.doubled,
           (unsigned long long)ledger.missing, (unsigned long long)ledger.broken, n_unexpected,
           (unsigned long long)ledger.bytes,
           histogram_quantile_ms(&ledger.latency, 0.5), histogram_quantile_ms(&ledger.latency, 0.99));
    fflush(stdout);
}

static bool is_open(const struct client *c)
{
    return c->phase == READY || c->phase == CLOSED;
}

static void open_clients(int port, int count, int in_flight, bool mute)
{
    uint64_t started = now_ns(), deadline = started + PATIENCE * 3, cpu = cpu_ns(&processes);
    int first = n_clients, opened = first, done = first;

    begin();
    while (done < first + count && now_ns() < deadline) {
        while (opened < first + count && opened < done + in_flight) {
            struct client *c = &clients[opened];
            memset(c->next, 0, sizeof c->next);
            c->mute = mute;
            c->room = mute ? 0 : n_members / ledger.room_size;
            n_members += !mute;
            if (!client_open(c, port)) {
                perror("connect");
                exit(1);
            }
            listen_to(c->fd, opened, EPOLL_CTL_ADD, EPOLLOUT);
            opened++;
        }
        pump(10, NULL);
        while (done < opened && is_open(&clients[done]))
            done++;
    }
    n_clients = opened;
    for (int i = first; i < opened; i++)
        if (clients[i].phase != READY)
            n_unexpected++;
    uint64_t ended = now_ns();
    wait_until_quiet(&processes, ended + SECOND);
    answer(ended - started, cpu_ns(&processes) - cpu);
}

static void send_batch(int window, bool stopped)
{
    if (stopped)
        stop_processes(&processes);
    for (int i = 0; i < window; i++)
        send_next(now_ns());
    if (stopped)
        continue_processes(&processes);
}

/* Whether to go on waiting for what is outstanding: something came in the last while. */
static bool is_hopeful(uint64_t *last, uint64_t *deliveries)
{
    uint64_t now = now_ns();
    if (*deliveries != ledger.deliveries) {
        *deliveries = ledger.deliveries;
        *last = now;
    }
    return ledger.outstanding > 0 && now - *last < SILENCE;
}

static void cost(int batches, int window, int depth, bool stopped)
{
    uint64_t started = now_ns(), cpu = 0;
    begin();
    while (batches > 0) {
        uint64_t deadline = now_ns() + PATIENCE, before = cpu_ns(&processes);
        for (int i = 0; i < depth && batches > 0; i++, batches--) {
            send_batch(window, stopped);
            wait_until_quiet(&processes, deadline);
        }
        uint64_t last = now_ns(), deliveries = ledger.deliveries;
        for (;;) {
            while (pump(0, NULL) > 0)
                ;
            if (!is_hopeful(&last, &deliveries))
                break;
            wait_until_quiet(&processes, deadline);
        }
        cpu += cpu_ns(&processes) - before;
        if (ledger.outstanding > 0)
            ledger_abandon(&ledger);
    }
    answer(now_ns() - started, cpu);
}

static void drain(void)
{
    uint64_t last = now_ns(), deliveries = ledger.deliveries;
    while (is_hopeful(&last, &deliveries))
        pump(10, NULL);
    if (ledger.outstanding > 0)
        ledger_abandon(&ledger);
}

static void speed(double seconds, int window)
{
    uint64_t started = now_ns(), cpu = cpu_ns(&processes);
    uint64_t until = started + (uint64_t)(seconds * (double)SECOND);
    begin();
    uint64_t last = started, deliveries = 0;
    for (uint64_t now = started; now < until; now = now_ns()) {
        while (window - (int)ledger.outstanding > 0)
            send_next(now);
        pump(10, NULL);
        if (ledger.outstanding > 0 && !is_hopeful(&last, &deliveries))
            ledger_abandon(&ledger); /* and go on with others */
    }
    drain();
    answer(now_ns() - started, cpu_ns(&processes) - cpu);
}

static void rate(double per_second, double seconds)
{
    uint64_t started = now_ns(), cpu = cpu_ns(&processes), step = (uint64_t)(SECOND / per_second);
    uint64_t due = started, until = started + (uint64_t)(seconds * (double)SECOND);
    begin();
    while (due < until) {
        uint64_t now = now_ns();
        for (; due <= now && due < until; due += step)
            send_next(due);
        pump(due > now + 1500000 ? 1 : 0, NULL);
    }
    drain();
    answer(now_ns() - started, cpu_ns(&processes) - cpu);
}

static void close_clients(void)
{
    uint64_t started = now_ns(), cpu = cpu_ns(&processes), deadline = started + PATIENCE;
    int left = 0;
    begin();
    for (int i = 0; i < n_clients; i++) {
        if (clients[i].phase == CLOSED)
            continue;
        if (clients[i].mute)
            client_drop(&clients[i]);
        else
            client_say_goodbye(&clients[i]);
        left += clients[i].phase != CLOSED;
    }
    while (n_unexpected < left && now_ns() < deadline)
        pump(10, NULL);
    n_unexpected = left - n_unexpected;
    for (int i = 0; i < n_clients; i++)
        client_drop(&clients[i]);
    n_clients = n_members = 0;
    ledger_abandon(&ledger);
    uint64_t ended = now_ns();
    wait_until_quiet(&processes, ended + SECOND);
    answer(ended - started, cpu_ns(&processes) - cpu);
}

static void obey(const char *line)
{
    int port, count, window, depth, stopped;
    double a, b;
    if (sscanf(line, "open %d %d %d", &port, &count, &window) == 3)
        open_clients(port, count, window, false);
    else if (sscanf(line, "mute %d %d", &port, &count) == 2)
        open_clients(port, count, count, true);
    else if (sscanf(line, "cost %d %d %d %d", &count, &window, &depth, &stopped) == 4)
        cost(count, window, depth, stopped != 0);
    else if (sscanf(line, "speed %lf %d", &a, &window) == 2)
        speed(a, window);
    else if (sscanf(line, "rate %lf %lf", &a, &b) == 2)
        rate(a, b);
    else if (strncmp(line, "close", 5) == 0)
        close_clients();
    else
        puts("{\"error\":\"no such command\"}");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[256];
    if (argc != 10) {
        fputs("load ws|socketio PATH DEFLATE ROOMS ROOM_SIZE PAYLOAD TEXTS COUNTED_PIDS "
              "WATCHED_PIDS\n",
              stderr);
        return 2;
    }
    dialect.socketio = strcmp(argv[1], "socketio") == 0;
    dialect.path = argv[2];
    dialect.deflate = atoi(argv[3]) != 0;
    ledger_init(&ledger, atoi(argv[4]), atoi(argv[5]), (size_t)atol(argv[6]),
                strcmp(argv[7], "-") == 0 ? NULL : argv[7]);
    parse_pids(argv[8], processes.counted, &processes.n_counted);
    parse_pids(argv[9], processes.watched, &processes.n_watched);

    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    poller = epoll_create1(EPOLL_CLOEXEC);
    listen_to(STDIN_FILENO, STDIN, EPOLL_CTL_ADD, EPOLLIN);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (;;) {
        bool command = false;
        pump(1000, &command);
        if (!command)
            continue;
        if (fgets(line, sizeof line, stdin) == NULL)
            return 0;
        obey(line);
    }
}
