"""`syncline up`: the whole system on one machine, over an embedded AWS.

child        starts a program that ends when its parent does
supervisor   keeps children running, and stops them in order
embedded     the process that emulates AWS
writethrough what it holds, written to the storage before it is acknowledged
storage      a database, and the bytes of objects, with nothing lost at a kill
backup       all of it in one file, and back
emulator     starts it, and tells how to reach it
deploy       creates our resources there, from the template that production uses
credentials  hands each service the credentials of its own role
services     what each service is told
up           all of that together, in the foreground
container    the embedded AWS alone, in a container, for services in others
running      all of that together, or the embedded AWS alone, for tests
"""
