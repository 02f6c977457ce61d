"""This worker: its sockets, their rooms, and what reaches them.

settings         the manager's settings, which its namespaces share
runtime          what the namespaces share: adapter, settings, and the present run
run              one run, from start to close: interest, messages out, messages in, the drain
local_namespace  a namespace on this worker: everything meets here
connection       a client, from `rooms.connect` to the end of its block
socket           the client as its endpoint sees it
listener         a room without a socket
fanout           from a broadcast to the members of its rooms
authorization    the handlers that are asked before a join
events           the handlers that are told of joins, leaves and gaps
disconnects      sockets that are about to be closed
drain            closes everyone, spread over a window
"""
