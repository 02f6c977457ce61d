/* The server's side of a WebSocket's opening handshake. */
#pragma once
#include <stddef.h>

/* Write the answer to a request, which ends with '\0'; returns its length, -1 if it asks for none. */
int handshake_response(const char *request, char *out, size_t size);
