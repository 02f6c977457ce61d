"""RabbitMQ between the workers: an exchange, and a queue for each worker.

    adapter              two connections, and what is published and received
       │
    pubsub/
    ├ publisher          messages out, confirmations matched to them
    ├ confirms           which of them are confirmed (pure)
    ├ subscriber         binds its queue to what is wanted, delivers what arrives
    ├ messages           what a message looks like, and the names of things (pure)
    └ lateness           messages that nobody waits for any more (pure)
       │
    links/               one connection
    ├ owner              opens links
    ├ link               bytes in and out, without a task or an await per message
    ├ steps              how a connection is opened (pure)
    ├ frames             AMQP as bytes (pure)
    ├ access             URLs, and what they ask for
    └ reasons            why it failed, and what to do (pure)

A module imports from its own folder and from those drawn below it. What is not RabbitMQ's own is in
[fastapi_rooms.adapters][]: supervision, what is wanted against what is confirmed, losses, the probe
and the buffer of an outage are those of Redis, too.

pamqp, which writes and reads AMQP's methods, is the extra `rabbitmq`. So nothing here is imported
before it is needed.
"""
