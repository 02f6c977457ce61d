"""Values, rules and state machines that return the work to do: no I/O, event loop, clock, log."""
