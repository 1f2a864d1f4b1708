"""Builds the documentation site: the pages of `docs/` and those that the program describes itself.

`sources` brings the pages together and checks their links, `commands`, `api`, `tables` and `weights` write the
reference, and `python -m docsite` builds the site with Zensical.
"""
