"""`python -m craters`."""

from craters.cli import main

if __name__ == "__main__":
    main()
