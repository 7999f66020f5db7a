"""The identity of the caller, the address of the caller, and the right of the caller as it stands."""
