/* The floor: a chat server of one thread that does nothing but what must be done.

   Epoll, a frame built once per message, one send() per member. Usage: floor PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "handshake.h"

enum { EVENTS = 256, READ_SIZE = 1 << 16, MAX_PENDING = 1 << 20, NAMES = 4096, MAX_FDS = 1 << 20 };

struct room {
    struct room *next;
    struct connection **members;
    int count, space;
    char name[64];
};

struct connection {
    int fd, at; /* where in its room's members */
    struct room *room;
    unsigned char *in, *out; /* what is incomplete; what the kernel did not take */
    size_t in_size, out_size;
};

static struct room *rooms[NAMES];
static struct connection *connections[MAX_FDS];
static int poller;

static struct room *room_of(const char *name)
{
    unsigned hash = 5381;
    for (const char *c = name; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    struct room **slot = &rooms[hash % NAMES];
    for (struct room *r = *slot; r != NULL; r = r->next)
        if (strcmp(r->name, name) == 0)
            return r;
    struct room *r = calloc(1, sizeof *r);
    snprintf(r->name, sizeof r->name, "%s", name);
    r->next = *slot;
    return *slot = r;
}

static void join(struct connection *c, struct room *r)
{
    if (r->count == r->space) {
        r->space = r->space != 0 ? r->space * 2 : 4;
        r->members = realloc(r->members, (size_t)r->space * sizeof *r->members);
    }
    c->room = r;
    c->at = r->count;
    r->members[r->count++] = c;
}

static void drop(struct connection *c)
{
    if (c->room != NULL) {
        struct connection *last = c->room->members[--c->room->count];
        c->room->members[c->at] = last;
        last->at = c->at;
    }
    connections[c->fd] = NULL;
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void want(struct connection *c, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.fd = c->fd};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void write_to(struct connection *c, const unsigned char *data, size_t size)
{
    size_t sent = 0;
    if (c->out_size == 0) {
        ssize_t n = send(c->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n == (ssize_t)size)
            return;
        sent = n > 0 ? (size_t)n : 0;
        want(c, EPOLLIN | EPOLLOUT);
    }
    if (c->out_size + size - sent > MAX_PENDING) {
        shutdown(c->fd, SHUT_RDWR); /* it does not read; its end comes as an event */
        return;
    }
    c->out = realloc(c->out, c->out_size + size - sent);
    memcpy(c->out + c->out_size, data + sent, size - sent);
    c->out_size += size - sent;
}

static void write_more(struct connection *c)
{
    ssize_t n = send(c->fd, c->out, c->out_size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n <= 0)
        return;
    c->out_size -= (size_t)n;
    memmove(c->out, c->out + n, c->out_size);
    if (c->out_size == 0)
        want(c, EPOLLIN);
}

static size_t build_frame(unsigned char *out, int opcode, const unsigned char *payload, size_t size)
{
    size_t at = 2;
    out[0] = (unsigned char)(0x80 | opcode);
    if (size < 126) {
        out[1] = (unsigned char)size;
    } else if (size < 65536) {
        out[1] = 126;
        out[2] = (unsigned char)(size >> 8);
        out[3] = (unsigned char)size;
        at = 4;
    } else {
        out[1] = 127;
        for (int i = 0; i < 8; i++)
            out[2 + i] = (unsigned char)(size >> (56 - 8 * i));
        at = 10;
    }
    memcpy(out + at, payload, size);
    return at + size;
}

static void broadcast(struct room *r, const unsigned char *payload, size_t size)
{
    unsigned char *frame = malloc(size + 10);
    size_t length = build_frame(frame, 1, payload, size);
    for (int i = 0; i < r->count; i++)
        write_to(r->members[i], frame, length);
    free(frame);
}

/* Returns how much of the data was used; -1 to hang up. */
static long read_frame(struct connection *c, unsigned char *data, size_t size)
{
    if (size < 6)
        return 0;
    uint64_t length = data[1] & 0x7f;
    size_t at = 2;
    if (length == 126) {
        length = (uint64_t)data[2] << 8 | data[3];
        at = 4;
    } else if (length == 127) {
        if (size < 10)
            return 0;
        length = 0;
        for (int i = 0; i < 8; i++)
            length = length << 8 | data[2 + i];
        at = 10;
    }
    if (size < at + 4 + length)
        return 0;
    unsigned char *mask = data + at, *payload = data + at + 4;
    for (uint64_t i = 0; i < length; i++)
        payload[i] ^= mask[i & 3];
    switch (data[0] & 0x0f) {
    case 1:
    case 2:
        broadcast(c->room, payload, (size_t)length);
        break;
    case 8:
        data[0] = 0x88;
        data[1] = 0;
        write_to(c, data, 2);
        return -1;
    }
    return (long)(at + 4 + length);
}

/* "GET /ws/NAME HTTP/1.1"; returns how much of the data was used; -1 to hang up. */
static long read_request(struct connection *c, unsigned char *data, size_t size)
{
    char response[256], name[64];
    unsigned char greeting[16];
    unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL)
        return size < READ_SIZE ? 0 : -1;
    *end = '\0';
    if (sscanf((char *)data, "GET /ws/%63s", name) != 1)
        return -1;
    int n = handshake_response((char *)data, response, sizeof response);
    if (n < 0)
        return -1;
    write_to(c, (unsigned char *)response, (size_t)n);
    join(c, room_of(name));
    write_to(c, greeting, build_frame(greeting, 1, (const unsigned char *)"ready", 5));
    return end + 4 - data;
}

static void keep(struct connection *c, const unsigned char *data, size_t size)
{
    unsigned char *kept = size != 0 ? malloc(size) : NULL;
    if (size != 0)
        memcpy(kept, data, size);
    free(c->in);
    c->in = kept;
    c->in_size = size;
}

static void read_from(struct connection *c)
{
    static unsigned char incoming[READ_SIZE * 2];
    if (c->in_size > READ_SIZE) {
        drop(c);
        return;
    }
    if (c->in_size != 0)
        memcpy(incoming, c->in, c->in_size);
    ssize_t got = recv(c->fd, incoming + c->in_size, READ_SIZE, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        drop(c);
        return;
    }
    unsigned char *at = incoming, *end = incoming + c->in_size + got;
    while (at < end) {
        size_t size = (size_t)(end - at);
        long used = c->room == NULL ? read_request(c, at, size) : read_frame(c, at, size);
        if (used < 0) {
            drop(c);
            return;
        }
        if (used == 0)
            break;
        at += used;
    }
    if (c->in_size != 0 || at < end)
        keep(c, at, (size_t)(end - at));
}

static void accept_all(int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (fd >= MAX_FDS) {
            close(fd);
            continue;
        }
        struct connection *c = connections[fd] = calloc(1, sizeof *c);
        struct epoll_event e = {.events = EPOLLIN, .data.fd = fd};
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static int listen_on(int port)
{
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    struct epoll_event e = {.events = EPOLLIN};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&here, sizeof here) != 0 || listen(fd, 4096) != 0) {
        perror("listen");
        exit(1);
    }
    e.data.fd = fd;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    struct rlimit files;
    if (argc != 2) {
        fputs("floor PORT\n", stderr);
        return 2;
    }
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    poller = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[1]));
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                accept_all(listener);
                continue;
            }
            if (connections[fd] != NULL && events[i].events & EPOLLOUT)
                write_more(connections[fd]);
            if (connections[fd] != NULL && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                read_from(connections[fd]);
        }
    }
}
