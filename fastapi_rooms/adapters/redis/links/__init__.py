"""Connections to Redis: where they lead, how they are opened, and which node is the master."""
