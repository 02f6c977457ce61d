"""Emitters: send to rooms, and ask who is present, from a process that has no manager.

emitters   the two kinds of them: one blocks, and one is awaited
operators  what is chained, and namespaces
presence   who is present
carriers   what they send by: the senders of each carrier
"""

from fastapi_rooms.emitter.emitters import AsyncEmitter, Emitter
from fastapi_rooms.emitter.operators import EmitNamespace, EmitOperator
from fastapi_rooms.emitter.presence import EmitPresence

__all__ = ["AsyncEmitter", "EmitNamespace", "EmitOperator", "EmitPresence", "Emitter"]
