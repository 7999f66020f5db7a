"""`python -m clients.cli`: the same as `syncline`."""

from clients.cli.entry import main

if __name__ == "__main__":
    main()
