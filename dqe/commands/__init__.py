"""The commands of `dqe`, one a module: `start`, `local`, `demo`, `sql`, `status`."""
