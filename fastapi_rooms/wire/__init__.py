"""What workers send each other: envelopes, their binary encoding, and an emitter's drafts."""
