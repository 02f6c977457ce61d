"""Rooms of which Redis knows who is present: scripts that change them, and questions.

presence     what `SupportsPresence` asks for, whoever is asked
indexes      the sets that lead to a room
reader       the part of it that only reads
questions    the questions by any client of redis-py, for emitters (pure)
node         the same of one Redis, by a lane
room_script  changes a room and tells of it; how it is called (pure)
room_answer  what it answers (pure)
lease_script renews the leases of workers (pure)
index_script adds a room to the sets that lead to it (pure)
mend_script  repairs what is made of the truth (pure)
calls        calling a script that Redis may have forgotten (pure)
replies      what may be believed of what is read (pure)
rights       what the user has to be allowed (pure)
keys         the names of what is kept (pure)
"""
