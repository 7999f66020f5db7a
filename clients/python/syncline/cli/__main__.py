"""`python -m syncline.cli`: the same as `syncline`."""

from syncline.cli.entry import main

if __name__ == "__main__":
    main()
