"""Pub/sub over one Redis node: a publisher, a subscriber, and the probe of both."""
