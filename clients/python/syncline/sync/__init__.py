"""The sync engine: scan, identify, plan, apply.

    scan -> identify -> local tree ┐
    journal ---------> remote tree ├─ plan(base, local, remote) -> steps -> apply -> base'
    state.db --------> base tree   ┘

`base` is the last state on which the folder and the space agreed, node by node. `plan` is pure; `apply` looks again at
what each step relies on just before it acts, and leaves everything that has changed since the scan to the next round.
"""
