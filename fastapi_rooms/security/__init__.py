"""Which web pages may open a connection, and how fast a client may send.

Who may join a room is up to the handlers of `rooms.authorize`; see `worker/authorization.py`.
"""
