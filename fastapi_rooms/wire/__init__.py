"""What travels between workers, as bytes: envelopes, their encoding, and emitters' drafts."""
