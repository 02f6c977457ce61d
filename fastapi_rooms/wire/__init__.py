"""What travels, as bytes.

Between workers: envelopes, their binary encoding, and an emitter's drafts. To clients that ask for
it: the framing by which they resume.
"""
