#define _GNU_SOURCE
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include "clock.h"
#include "frames.h"

enum { READ_SIZE = 1 << 20, TEXT_SIZE = 1 << 20, MUTE_BUFFER = 4096 };

static unsigned char incoming[READ_SIZE], inflated[TEXT_SIZE];

static const char SIO_BEFORE[] = "42[\"m\",\"", SIO_AFTER[] = "\"]";
enum { BEFORE = sizeof SIO_BEFORE - 1, AFTER = sizeof SIO_AFTER - 1 };

bool client_open(struct client *c, int port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, small = MUTE_BUFFER;

    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return false;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (c->mute)
        setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    c->phase = CONNECTING;
    return connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS;
}

static bool write_all(struct client *c, const void *data, size_t size)
{
    return send(c->fd, data, size, MSG_NOSIGNAL) == (ssize_t)size;
}

static void send_frame(struct client *c, int opcode, const void *payload, size_t length)
{
    unsigned char out[FRAME_ROOM + 256];
    if (length <= 256)
        write_all(c, out, frame_build(out, opcode, payload, length));
}

void client_connected(struct client *c, const struct dialect *d)
{
    char path[256], request[1024];
    snprintf(path, sizeof path, d->path, c->room);
    int n = snprintf(request, sizeof request,
                     "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                     "Sec-WebSocket-Version: 13\r\n%s\r\n",
                     path,
                     d->deflate ? "Sec-WebSocket-Extensions: permessage-deflate; "
                                  "client_max_window_bits\r\n"
                                : "");
    if (write_all(c, request, (size_t)n))
        c->phase = UPGRADING;
    else
        client_drop(c);
}

/* Returns how many bytes the response took; 0 when more are needed. */
static size_t read_upgrade(struct client *c, const struct dialect *d, unsigned char *data,
                           size_t size)
{
    unsigned char *end = memmem(data, size, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    if (size < 12 || memcmp(data + 9, "101", 3) != 0) {
        fprintf(stderr, "refused: %.*s\n", (int)(end - data), (char *)data);
        client_drop(c);
        return size;
    }
    *end = '\0';
    if (d->deflate && strcasestr((char *)data, "permessage-deflate") != NULL) {
        c->inflater = calloc(1, sizeof *c->inflater);
        inflateInit2(c->inflater, -15);
    }
    c->phase = JOINING;
    return (size_t)(end - data) + 4;
}

static bool inflate_message(struct client *c, struct frame *f)
{
    static unsigned char tail[4] = {0, 0, 0xff, 0xff};
    z_stream *z = c->inflater;
    if (z == NULL)
        return false;
    z->next_out = inflated;
    z->avail_out = sizeof inflated;
    z->next_in = f->payload;
    z->avail_in = (uInt)f->length;
    if (inflate(z, Z_SYNC_FLUSH) < 0)
        return false;
    z->next_in = tail;
    z->avail_in = sizeof tail;
    int result = inflate(z, Z_SYNC_FLUSH);
    if (result < 0 && result != Z_BUF_ERROR)
        return false;
    f->payload = inflated;
    f->length = sizeof inflated - z->avail_out;
    return true;
}

/* Engine.IO and Socket.IO packets other than messages; true when it was one. */
static bool read_socketio(struct client *c, const char *text, size_t length)
{
    if (length >= 1 && text[0] == '0') { /* open: ask for the default namespace */
        send_frame(c, OP_TEXT, "40", 2);
        return true;
    }
    if (length >= 1 && text[0] == '2') { /* ping */
        send_frame(c, OP_TEXT, "3", 1);
        return true;
    }
    if (length >= 2 && memcmp(text, "40", 2) == 0) /* connected to the namespace */
        return true;
    if (length >= 9 && memcmp(text, "42[\"ready", 9) == 0) {
        c->phase = READY;
        return true;
    }
    return false;
}

static void read_text(struct client *c, const struct dialect *d, struct ledger *l, const char *text,
                     size_t length, uint64_t now)
{
    if (d->socketio) {
        if (read_socketio(c, text, length))
            return;
        if (length < BEFORE + AFTER || memcmp(text, SIO_BEFORE, BEFORE) != 0) {
            l->broken++;
            return;
        }
        text += BEFORE;
        length -= BEFORE + AFTER;
    } else if (c->phase == JOINING && length == 5 && memcmp(text, "ready", 5) == 0) {
        c->phase = READY;
        return;
    }
    ledger_receive(l, c->room, c->next, text, length, now);
}

static void read_frame(struct client *c, const struct dialect *d, struct ledger *l, struct frame *f,
                      uint64_t now)
{
    switch (f->opcode) {
    case OP_TEXT:
        if (!f->fin || (f->compressed && !inflate_message(c, f))) {
            l->broken++;
            return;
        }
        read_text(c, d, l, (char *)f->payload, f->length, now);
        return;
    case OP_PING:
        send_frame(c, OP_PONG, f->payload, f->length);
        return;
    case OP_CLOSE:
        client_drop(c);
        return;
    default:
        return;
    }
}

static void keep_rest(struct client *c, const unsigned char *data, size_t size)
{
    if (size > c->rest_room) {
        c->rest_room = size * 2;
        unsigned char *bigger = malloc(c->rest_room);
        memcpy(bigger, data, size);
        free(c->rest);
        c->rest = bigger;
    } else if (size > 0) {
        memmove(c->rest, data, size);
    }
    c->rest_size = size;
}

void client_read(struct client *c, const struct dialect *d, struct ledger *l)
{
    ssize_t got = recv(c->fd, incoming + c->rest_size, sizeof incoming - c->rest_size, 0);

    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR))
            client_drop(c);
        return;
    }
    l->bytes += (uint64_t)got;
    memcpy(incoming, c->rest, c->rest_size);
    unsigned char *at = incoming, *end = incoming + c->rest_size + got;
    uint64_t now = now_ns();
    if (c->phase == UPGRADING) {
        size_t used = read_upgrade(c, d, at, (size_t)(end - at));
        at += used;
        if (used == 0) {
            keep_rest(c, at, (size_t)(end - at));
            return;
        }
    }
    while (c->phase != CLOSED && at < end) {
        struct frame f;
        long used = frame_parse(at, (size_t)(end - at), &f);
        if (used == 0)
            break;
        if (used < 0) {
            l->broken++;
            client_drop(c);
            return;
        }
        read_frame(c, d, l, &f, now);
        at += used;
    }
    if (c->phase != CLOSED)
        keep_rest(c, at, (size_t)(end - at));
}

bool client_send(struct client *c, const struct dialect *d, struct ledger *l, int sender,
                 uint64_t at)
{
    static char text[TEXT_SIZE];
    static unsigned char out[TEXT_SIZE + FRAME_ROOM];
    size_t size = l->payload;

    if (c->phase != READY)
        return false;
    if (d->socketio) {
        memcpy(text, SIO_BEFORE, BEFORE);
        ledger_compose(l, sender, at, text + BEFORE);
        memcpy(text + BEFORE + size, SIO_AFTER, AFTER);
        size += BEFORE + AFTER;
    } else {
        ledger_compose(l, sender, at, text);
    }
    return write_all(c, out, frame_build(out, OP_TEXT, text, size));
}

void client_say_goodbye(struct client *c)
{
    if (c->phase >= UPGRADING)
        send_frame(c, OP_CLOSE, "\x03\xe8", 2);
    shutdown(c->fd, SHUT_WR);
}

void client_drop(struct client *c)
{
    if (c->phase == CLOSED)
        return;
    close(c->fd);
    c->fd = -1;
    c->phase = CLOSED;
    c->rest_size = 0;
    if (c->inflater != NULL) {
        inflateEnd(c->inflater);
        free(c->inflater);
        c->inflater = NULL;
    }
}
