"""The bundled pair: a tiny invented world, two tiny models and a fuser, made from a seed.

Everything here runs on torch, transformers and tokenizers alone, so that the pair can be rebuilt
on a machine that holds nothing else.
"""
