"""The servers that are measured: the same chat, in each library as its own documentation has it.

A client connects to `/ws/{room}`, is told `ready` once it is in the room, and what it sends goes to
everyone in the room, itself included.
"""
