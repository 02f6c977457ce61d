#define _GNU_SOURCE
#include "handshake.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

static uint32_t rotate(uint32_t x, int n)
{
    return x << n | x >> (32 - n);
}

/* SHA-1 of at most 119 bytes, which the key and the GUID are far from. */
static void sha1(const unsigned char *data, size_t size, unsigned char out[20])
{
    unsigned char padded[128] = {0};
    size_t blocks = size < 56 ? 1 : 2;
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};

    memcpy(padded, data, size);
    padded[size] = 0x80;
    for (int i = 0; i < 8; i++)
        padded[blocks * 64 - 1 - (size_t)i] = (unsigned char)((uint64_t)size * 8 >> (8 * i));
    for (size_t b = 0; b < blocks; b++) {
        uint32_t w[80], a = h[0], bb = h[1], c = h[2], d = h[3], e = h[4];
        const unsigned char *p = padded + b * 64;
        for (int i = 0; i < 16; i++, p += 4)
            w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        for (int i = 16; i < 80; i++)
            w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        for (int i = 0; i < 80; i++) {
            uint32_t f = i < 20   ? (bb & c) | (~bb & d)
                         : i < 40 ? bb ^ c ^ d
                         : i < 60 ? (bb & c) | (bb & d) | (c & d)
                                  : bb ^ c ^ d;
            static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
            uint32_t t = rotate(a, 5) + f + e + k[i / 20] + w[i];
            e = d;
            d = c;
            c = rotate(bb, 30);
            bb = a;
            a = t;
        }
        h[0] += a;
        h[1] += bb;
        h[2] += c;
        h[3] += d;
        h[4] += e;
    }
    for (int i = 0; i < 20; i++)
        out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

static void base64(const unsigned char in[20], char out[29])
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int at = 0;
    for (int i = 0; i < 20; i += 3) {
        uint32_t v = (uint32_t)in[i] << 16 | (uint32_t)in[i + 1] << 8 | (i + 2 < 20 ? in[i + 2] : 0);
        out[at++] = letters[v >> 18];
        out[at++] = letters[v >> 12 & 63];
        out[at++] = letters[v >> 6 & 63];
        out[at++] = i + 2 < 20 ? letters[v & 63] : '=';
    }
    out[at] = '\0';
}

int handshake_response(const char *request, char *out, size_t size)
{
    char key[25], text[64], accept[29];
    unsigned char digest[20];
    const char *line = strcasestr(request, "\r\nsec-websocket-key:");

    if (line == NULL || sscanf(line + 20, " %24s", key) != 1)
        return -1;
    int n = snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1((unsigned char *)text, (size_t)n, digest);
    base64(digest, accept);
    return snprintf(out, size,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                    accept);
}
