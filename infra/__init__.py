"""Production on AWS: `python -m infra.deploy`, which `make deploy` runs.

*.yaml      CloudFormation: artefacts, network, data, services, in the order in which they are deployed
machine/    scripts that set up a machine of a service; part of every release
prices.toml AWS's prices
templates   reads the templates
release     builds the software of the machines
stacks      deploys one stack: change set, changes, outcome
cost        estimates the monthly cost
deploy      deploys a stage, with all of these
"""
