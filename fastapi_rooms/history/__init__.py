"""Rooms that remember: what this worker knows of them, and how it heals.

entry     one of those rooms: its log, and what is going on with it
messages  what carriers keep, read as messages
logs      the recoverable rooms of a namespace that this worker has a part in
"""
