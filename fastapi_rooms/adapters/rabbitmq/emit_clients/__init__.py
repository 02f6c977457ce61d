"""Publishing to RabbitMQ from processes without a manager.

senders   publish: one blocks, and one is awaited
wires     the connection of the one that blocks
"""
