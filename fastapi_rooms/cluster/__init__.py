"""The workers among themselves: who lives, and what one asks of the others.

peers        which other workers live: pure
question     a request under way: pure
verbs        what a worker does for one that asks
remote       what is asked, and what is made of the answers
description  what a worker says of itself
cluster      sends, listens and waits
"""
