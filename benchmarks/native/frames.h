/* WebSocket frames: what a client sends, and how what a server sends begins. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum { OP_TEXT = 1, OP_BINARY = 2, OP_CLOSE = 8, OP_PING = 9, OP_PONG = 10, FRAME_ROOM = 14 };

struct frame {
    unsigned char *payload;
    size_t length;
    int opcode, fin, compressed;
};

/* Write a masked frame to `out`, which has FRAME_ROOM bytes to spare; returns its length. */
size_t frame_build(unsigned char *out, int opcode, const void *payload, size_t length);

/* Read one frame; returns its whole length, 0 when more bytes are needed, -1 when it is none. */
long frame_parse(unsigned char *data, size_t size, struct frame *frame);
