#include "ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 512, POOL = 1 << 16, STRIDE = 1009, MOST_TEXTS = 1 << 22 };

struct sender {
    uint32_t next;
    struct {
        uint32_t remaining;
        uint64_t sent_at;
    } ring[RING];
};

static void make_noise(struct ledger *l)
{
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;-_";
    char *pool = malloc(POOL);
    uint32_t state = 12345;
    for (int i = 0; i < POOL; i++) {
        state = state * 1664525u + 1013904223u;
        pool[i] = letters[(state >> 16) % (sizeof letters - 1)];
    }
    l->texts = pool;
    l->texts_size = POOL;
    l->stride = STRIDE;
}

static void read_texts(struct ledger *l, const char *path)
{
    FILE *file = fopen(path, "rb");
    char *texts = malloc(MOST_TEXTS);
    if (file != NULL)
        l->texts_size = fread(texts, 1, MOST_TEXTS, file);
    l->stride = l->payload - LEDGER_HEADER;
    if (l->texts_size < l->stride || l->texts_size % l->stride != 0) {
        fprintf(stderr, "%s has no texts of %zu bytes\n", path, l->stride);
        exit(2);
    }
    fclose(file);
    l->texts_size += l->stride; /* as the last one may be reached, too */
    l->texts = texts;
}

void ledger_init(struct ledger *l, int rooms, int room_size, size_t payload, const char *file)
{
    memset(l, 0, sizeof *l);
    l->rooms = rooms;
    l->room_size = room_size;
    l->slots = room_size < SLOTS ? room_size : SLOTS;
    l->payload = payload;
    l->senders = calloc((size_t)rooms * (size_t)l->slots, sizeof *l->senders);
    if (file == NULL)
        make_noise(l);
    else
        read_texts(l, file);
}

int ledger_sender(const struct ledger *l, uint64_t k)
{
    int room = (int)(k % (uint64_t)l->rooms);
    return room * l->slots + (int)(k / (uint64_t)l->rooms % (uint64_t)l->slots);
}

int ledger_client(const struct ledger *l, int sender)
{
    return sender / l->slots * l->room_size + sender % l->slots * l->room_size / l->slots;
}

static const char *text_of(const struct ledger *l, uint32_t sender, uint32_t number)
{
    size_t length = l->payload - LEDGER_HEADER;
    size_t nth = number * (size_t)l->slots + sender % (uint32_t)l->slots;
    return l->texts + nth * l->stride % (l->texts_size - length);
}

void ledger_compose(struct ledger *l, int sender, uint64_t sent_at, char *out)
{
    struct sender *s = &l->senders[sender];
    uint32_t number = s->next++;
    size_t rest = l->payload - LEDGER_HEADER;
    char header[LEDGER_HEADER + 1];

    snprintf(header, sizeof header, "%08x%08x", (unsigned)sender, number);
    memcpy(out, header, LEDGER_HEADER);
    memcpy(out + LEDGER_HEADER, text_of(l, (uint32_t)sender, number), rest);
    if (s->ring[number % RING].remaining > 0) {
        l->lost += s->ring[number % RING].remaining;
        l->outstanding--;
    }
    s->ring[number % RING].remaining = (uint32_t)l->room_size;
    s->ring[number % RING].sent_at = sent_at;
    l->outstanding++;
}

static bool parse_hex(const char *text, uint32_t *value)
{
    uint32_t sum = 0;
    for (int i = 0; i < 8; i++) {
        unsigned c = (unsigned char)text[i];
        unsigned digit = c - '0' < 10 ? c - '0' : (c | 32) - 'a' + 10;
        if (digit > 15)
            return false;
        sum = sum << 4 | digit;
    }
    *value = sum;
    return true;
}

void ledger_receive(struct ledger *l, int room, uint32_t *next, const char *text, size_t length,
                    uint64_t now)
{
    uint32_t sender, number;
    size_t rest = l->payload - LEDGER_HEADER;

    if (length != l->payload || !parse_hex(text, &sender) || !parse_hex(text + 8, &number)
        || (int)sender / l->slots != room
        || memcmp(text + LEDGER_HEADER, text_of(l, sender, number), rest) != 0) {
        l->broken++;
        return;
    }
    struct sender *s = &l->senders[sender];
    uint32_t *expected = &next[sender % (uint32_t)l->slots];
    if (number < *expected || number >= s->next) {
        l->doubled++;
        return;
    }
    l->missing += number - *expected;
    *expected = number + 1;
    if (s->next - number > RING || s->ring[number % RING].remaining == 0)
        return; /* too late, counted as lost */
    l->deliveries++;
    histogram_add(&l->latency, now - s->ring[number % RING].sent_at);
    if (--s->ring[number % RING].remaining == 0)
        l->outstanding--;
}

void ledger_abandon(struct ledger *l)
{
    for (int i = 0; i < l->rooms * l->slots; i++)
        for (int j = 0; j < RING; j++) {
            l->lost += l->senders[i].ring[j].remaining;
            l->senders[i].ring[j].remaining = 0;
        }
    l->outstanding = 0;
}

void ledger_clear_counts(struct ledger *l)
{
    l->deliveries = l->lost = l->doubled = l->missing = l->broken = l->bytes = 0;
    histogram_clear(&l->latency);
}
