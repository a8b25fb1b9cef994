"""Weights of other projects: one importer a project, arrays and a card out, no model code.

Each importer is ``read(path, names, ...) -> Imported``; ``names`` are the class names the user
gave, or None.
"""
