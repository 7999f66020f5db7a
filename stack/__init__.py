"""`syncline up`: the whole system on one machine, over an embedded AWS.

child        starts a program that ends when its parent does
supervisor   keeps children running, and stops them in order
emulator     the process that emulates AWS, and keeps its state through a kill
embedded_aws starts the emulator, and gives access to it
backup       copies a data directory to one file; `restore` does the reverse
deploy       creates our resources there, from the template that production uses
credentials  hands each service the credentials of its own role
services     the environment of each service
up           runs the whole system in the foreground
container    runs the embedded AWS alone in a container, for services in other containers
running      runs the whole system, or the embedded AWS alone, for tests
"""
