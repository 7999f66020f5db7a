"""The sync engine: scan, identify, plan, apply.

    scan -> identify -> local tree ┐
    journal ---------> remote tree ├─ plan(base, local, remote) -> operations -> apply -> base'
    state.db --------> base tree   ┘

`base` is the last state on which the folder and the space agreed, node by node. `plan` is a pure function. `apply`
checks again, just before each operation, the facts that the operation relies on; a file that has changed since the scan
is left to the next round.
"""
