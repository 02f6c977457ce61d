"""Pure state and its transitions, which return the work to do: no event loop, clock or log."""
