/* One connection: handshake, plain WebSocket or Socket.IO over its WebSocket transport, messages. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ledger.h"

enum phase { CLOSED, CONNECTING, UPGRADING, JOINING, READY };

struct dialect {
    bool socketio, deflate;
    const char *path; /* with one %d for the room */
};

struct client {
    int fd, room;
    enum phase phase;
    bool mute;
    uint32_t next[SLOTS];
    unsigned char *rest; /* the beginning of a frame whose end has not come */
    size_t rest_size, rest_room;
    struct z_stream_s *inflater;
};

/* Begin to connect; false when that is impossible. A mute client reads no more once it is READY. */
bool client_open(struct client *c, int port);
/* The socket is writable for the first time: send the handshake. */
void client_connected(struct client *c, const struct dialect *d);
/* Read what is there. */
void client_read(struct client *c, const struct dialect *d, struct ledger *l);
/* Send the next message of a sender. */
bool client_send(struct client *c, const struct dialect *d, struct ledger *l, int sender,
                 uint64_t at);
void client_say_goodbye(struct client *c);
void client_drop(struct client *c);
