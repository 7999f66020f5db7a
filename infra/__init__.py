"""Production on AWS: `python -m infra.deploy`, which `make deploy` runs.

*.yaml      CloudFormation: artefacts, network, data, services, in the order in which they are deployed
machine/    what a machine runs to become one of a service; part of every release
prices.toml what AWS charges
templates   reads those files
release     builds what machines run
stacks      one stack: change set, changes, outcome
cost        what it will cost
deploy      all of that together
"""
