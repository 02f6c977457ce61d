"""Pure state: its transitions do no I/O and return the work to do. No event loop, clock or log."""
