"""What Socket.IO's servers and emitters say to each other through Redis, as bytes: pure.

It is the protocol of `@socket.io/redis-adapter` from version 7 on, and of
`@socket.io/redis-emitter`, with their default parsers.

settings   what a manager or an emitter is told of it
channels   where it is said
msgpack    the library, and the limits of what is read by it
values     arguments of events, as both sides can have them
events     how events become native messages, and these become events
names      names of rooms, which may be numbers there
packets    broadcasts
requests   what one server asks of the others
responses  what they answer
drafts     what an emitter tells them

Whatever is sent is written from a fixed template: what a Node server cannot read ends its process,
or disconnects its clients. Whatever comes is checked before anything is made of it.
"""
