"""Replay before you switch on: the same measuring and the same policies, run over what has happened already.

Nothing here is a copy of them. History is scanned once into small profiles; a window is the merge of some of
them, as is the reference of every champion that a policy would have made.
"""
