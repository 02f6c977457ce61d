"""This worker: its sockets, their rooms, and what reaches them.

settings          the manager's settings, which its namespaces share
runtime           what the namespaces share: adapter, settings, and the present run
run               one run, from start to close: interest, messages out, messages in, the drain
peer_run          the same among Socket.IO's servers
shared_requests   requests to the workers and to those together
emit_verb         sending events, which their clients get as they are
confirmation      waiting for the adapter to confirm joins, or admitting clients without
local_namespace   a namespace on this worker: everything meets here
edge_namespace    the same for one client that an edge holds
edge_replies      what that edge answers
edge_carrier      whether a manager reaches the edge of such a client
managed           what a run knows of a namespace
frames            what edges and backends send each other
namespaces        which namespaces there are, and how long
clients           who is connected to one
handlers          what the application has registered for one
connection        a client, from `rooms.connect` to the end of its block
blocks            what is entered by `async with`, and says so
refusals          how a client is refused
causes            what an exception that ends the block consists of
socket            the client as its endpoint sees it
socket_host       what it needs of its namespace
listener          a room without a socket
listening         the block in which one listens
room_message      the messages it gets
fanout            from a broadcast to the members of its rooms
compressing       long messages that are compressed in steps
burst             messages that are written together, in as few writes as possible
overload          messages of other workers that were dropped, as too many came
doubts            messages that a worker can hardly have sent, though they bear its name
joins             from a `join` to the socket in its rooms
entering          those who are about to be present
pending_joins     those that are under way, and the leaves that come meanwhile
crowds            what is done to very many sockets, part by part
recovery          what is different for rooms with a history
resume            what somebody who joins one asks for, and gets
framing           all of them in a namespace, and what they are told beside messages
framed_transport  the transport to one
client_heartbeat  something now and then to those that are sent nothing
hello             the beginning of a connection with a client that speaks the framing
replay            what a socket is sent of what was said before it is in
declaring         tells those who have no application what rooms have
learning          learns it, for one of them: an edge's manager
history_verbs     what a namespace offers for them
presences         what is different for rooms that know who is present
presence_rules    which rooms those are, and who is told
presence_run      who is present, in all namespaces of a run
presence          what an application asks, and is told
kept_data         what the edge of a client keeps of its data
own_joins         rooms that such a client's endpoint joins, and leaves meanwhile
watching          hears of who comes and goes where a socket is that an edge holds
presence_verbs    what a namespace offers for them
authorization     the handlers that are asked before a join
events            the handlers that are told of joins, leaves and gaps
gaps              what a namespace may have missed during an outage
disconnects       sockets that are about to be closed
drain             closes everyone, spread over a window
"""
