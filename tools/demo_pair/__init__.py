"""The bundled pair: a tiny invented world, two tiny models and a fuser, made from a seed.

How it is made is no part of the installed package, which holds what comes of it:
`latentwire/pairs/demo`.
"""
