"""The commands of `dqe`, one a module each; `terminal` and `stop_signal` are what they share."""
