"""The soak: many clients of all kinds on two workers, faults meanwhile, and what is left after it.

    make soak                  ten minutes
    make soak SECONDS=60       one
    python -m tests.soak --help

app         the application that both workers run
state       what a worker holds on to, asked of itself: containers, tasks, objects, files
memory      where a worker's memory is: in use, or free in an allocator
client      a WebSocket client
ledger      what was said and heard, and what is wrong with that
crowd       the clients, and what they do
faults      what happens to Redis and to the wires
verdict     what a run has found, and whether that is well
"""
