"""Who is present, as far as this worker has to do with it.

keeper      keeps the carrier to what is so here: the sockets of this worker in their rooms
telling     what the carrier is being told of one room
turns       what comes in some turns of the event loop goes together
comparison  of what the carrier has of them with that, once a minute
host        who knows what was declared, and is told what became of it
lease       by which the worker lives, and takes over from those that do not
reaper      takes out the sockets of those that have died
graces      when somebody's grace is over, room by room
failures    what those are told who wait for what could not be done
"""
