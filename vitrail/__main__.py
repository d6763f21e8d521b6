"""`python -m vitrail`, and what `torchrun -m vitrail` runs."""

from vitrail.cli import main

if __name__ == "__main__":
    main()
