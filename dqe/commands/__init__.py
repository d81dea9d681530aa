"""The commands of `dqe`, one a module each."""
