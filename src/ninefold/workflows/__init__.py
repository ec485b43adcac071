"""Workflows: YAML read as models, runs that survive a crash, brakes and approvals, tickets mirrored.

`language.py` reads the YAML, `expression.py` the CEL in it. `dispatch.py` decides which change starts a run and says why not,
`book.py` keeps runs in the records, one transaction a transition, `execution.py` takes one run through its steps, `engine.py` drives
all of it. `context.py` is what expressions see, `mask.py` keeps secrets out of the book, `tickets.py` mirrors other systems' tickets.
"""
