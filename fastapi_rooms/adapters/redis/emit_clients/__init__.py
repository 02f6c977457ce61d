"""Clients of redis-py, synchronous or not, for processes without a manager.

senders  publish, and ask who is present: one blocks, and one is awaited
turns    what is done at a time: commands, and what it means that they failed (pure)
access   how a client is made, by a URL or by a user
"""
