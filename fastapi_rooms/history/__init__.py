"""Rooms that remember: what this worker knows of them, and how it heals.

messages  what carriers keep, read as messages
logs      the recoverable rooms of a namespace that this worker has a part in
"""
