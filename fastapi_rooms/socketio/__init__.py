"""A worker among Node servers that use Socket.IO's Redis adapter on the same Redis.

adapter    subscribes to Socket.IO's channels beside our own, and tells them apart
peer       composes them: what a run has of it
responder  does what Node servers ask, and answers
requester  asks Node servers, and waits
pending    a question under way: pure
"""
