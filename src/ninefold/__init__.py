"""Ninefold: AIOps in one program.

The package is six floors, and a module imports only from floors below its own (`tests/test_floors.py` holds it to that):

    5  cli, web                                                      talk to people and programs
    4  app                                                           the only wiring
    3  normalise, incidents, workflows, roadmap, demo                the domain at work
    2  analytics | store | journal | engine | sources | connectors   neighbours that never import one another
    1  plugin, config                                                contracts
    0  ground, model                                                 words and plain data
"""

__version__ = "0.1.0"
