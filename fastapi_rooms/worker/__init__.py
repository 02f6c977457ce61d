"""This worker: its sockets, their rooms, and what reaches them."""
