"""The workers among themselves: who lives, and what one asks of the others.

peers        which other workers live, by what was heard when: pure
pending      a request under way: pure
sender       sends envelopes in the name of this worker
heartbeat    who lives: discovery, heartbeats, and checks of who is silent
commands     what a worker does for one that asks
responder    carries out what others ask, and answers
requester    asks the others, and waits
missing      who went without a goodbye, until it is lost: pure
known_rooms  which rooms the others have, for when one is lost
collect      makes one result of many responses
cluster      composes them
description  what a worker says of itself
"""
