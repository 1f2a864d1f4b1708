"""The `keras-scgm` command: one module per verb.

Each verb imports what it needs when it runs, so that help and mistakes in the command line need not wait for it.
"""
