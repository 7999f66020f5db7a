"""The audit log: security events, which are appended, listed, counted and exported, and never changed."""
