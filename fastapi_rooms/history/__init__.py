"""Rooms that remember: what this worker knows of them, and how it heals.

logs     the recoverable rooms of a namespace that this worker has a part in
"""
