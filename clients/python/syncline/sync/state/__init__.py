"""The state that a device keeps about a synced folder."""
