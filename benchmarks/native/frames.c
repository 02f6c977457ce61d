#include "frames.h"

#include <string.h>

static uint32_t next_mask(void)
{
    static uint32_t state = 0x9e3779b9u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

size_t frame_build(unsigned char *out, int opcode, const void *payload, size_t length)
{
    const unsigned char *in = payload;
    unsigned char mask[4];
    size_t at = 2;
    uint32_t key = next_mask();

    memcpy(mask, &key, 4);
    out[0] = (unsigned char)(0x80 | opcode);
    if (length < 126) {
        out[1] = (unsigned char)(0x80 | length);
    } else if (length < 65536) {
        out[1] = 0x80 | 126;
        out[2] = (unsigned char)(length >> 8);
        out[3] = (unsigned char)length;
        at = 4;
    } else {
        out[1] = 0x80 | 127;
        for (int i = 0; i < 8; i++)
            out[2 + i] = (unsigned char)(length >> (56 - 8 * i));
        at = 10;
    }
    memcpy(out + at, mask, 4);
    at += 4;
    for (size_t i = 0; i < length; i++)
        out[at + i] = in[i] ^ mask[i & 3];
    return at + length;
}

long frame_parse(unsigned char *data, size_t size, struct frame *frame)
{
    size_t at = 2;
    uint64_t length;

    if (size < 2)
        return 0;
    if (data[1] & 0x80)
        return -1; /* a server does not mask */
    length = data[1] & 0x7f;
    if (length == 126) {
        if (size < 4)
            return 0;
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
    if (size < at + length)
        return 0;
    frame->fin = data[0] >> 7;
    frame->compressed = data[0] >> 6 & 1;
    frame->opcode = data[0] & 0x0f;
    frame->payload = data + at;
    frame->length = (size_t)length;
    return (long)(at + length);
}
