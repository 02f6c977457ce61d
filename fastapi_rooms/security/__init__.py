"""At the door: which pages may connect, who may join which room, and how fast a client may talk.

origins    which pages may open a connection
guards     who is asked before a socket joins
ratelimit  how fast a client may send, by a `bucket` of tokens: pure
"""
