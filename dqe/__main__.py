"""`python -m dqe` is the `dqe` command."""

from dqe.cli import main

main()
