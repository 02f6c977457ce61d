/* Who has sent what, and who has it: every message once, in its sender's order, unchanged.

   A message is 8 hex digits of its sender, 8 of its number, and text that differs from message to
   message: parts of noise, or what a file has, one message after the other. Each room has up to SLOTS members that send, spread evenly over it. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

enum { SLOTS = 16, LEDGER_HEADER = 16 };

struct ledger {
    int rooms, room_size, slots;
    size_t payload;
    struct sender *senders;
    const char *texts;
    size_t texts_size, stride;
    struct histogram latency;
    uint64_t deliveries, outstanding, lost, doubled, missing, broken;
    uint64_t bytes; /* that came, whatever they were */
};

/* `file`: texts of PAYLOAD - LEDGER_HEADER bytes each; NULL for noise. */
void ledger_init(struct ledger *l, int rooms, int room_size, size_t payload, const char *file);

/* The k-th message of a rotation over rooms, then over the senders of a room. */
int ledger_sender(const struct ledger *l, uint64_t k);
/* The number of the client that is this sender. */
int ledger_client(const struct ledger *l, int sender);
/* Write the sender's next message, and expect all of its room to get it. */
void ledger_compose(struct ledger *l, int sender, uint64_t sent_at, char *out);
/* A member of `room` got a message; `next` is what it expects of each slot. */
void ledger_receive(struct ledger *l, int room, uint32_t *next, const char *text, size_t length,
                    uint64_t now);
/* Give up on what has not arrived. */
void ledger_abandon(struct ledger *l);
void ledger_clear_counts(struct ledger *l);
