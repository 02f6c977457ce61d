"""The workers among themselves: who lives, and what one asks of the others.

peers        which other workers live, by what was heard when: pure
question     a request under way: pure
verbs        what a worker does for one that asks
remote       what is asked, and what is made of the answers
description  what a worker says of itself
post         messages, signed and handed to the adapter
discovery    who lives: greets, beats, and looks into who is silent
cluster      asks, answers and waits
"""
