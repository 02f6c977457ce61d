"""One Redis node's pub/sub: a publishing connection, a subscribing one, and the probe of both."""
