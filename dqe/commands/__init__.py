"""The commands of `dqe`, one a module each.

`start`, `local` and `demo` run nodes; `sql` asks them; `status`, `check`, `node` and `recover` are
for operators; `simulate` needs no node. `terminal` and `stop_signal` are what they share.
"""
