"""Rooms whose messages Redis keeps: a script that appends, and questions that read.

history      what `SupportsHistory` asks for
reader       how rooms are read and forgotten, whoever is asked
lane         the connection: one batch under way, any number of questions
appends      messages that wait, and the batch that is not answered
exchanges    what was written, and the replies that belong to it
script       numbers, keeps and publishes; how it is called, what it answers (pure)
reading      how a room is read, and what may be believed of it (pure)
rights       what the user has to be allowed (pure)
refusals     why Redis refuses, and what to do (pure)
keys         the names of what is kept (pure)

For those who are no workers:
declarer     writes what rooms have, as `declared/` has it
emitted      the commands by which emitters append
once         the script for them, as they may send twice without knowing it (pure)
emitter_rights  what their user has to be allowed (pure)
"""
