"""Whom a message is for and what is done with it: the operators that users chain."""
