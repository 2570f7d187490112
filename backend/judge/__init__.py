"""Judging: who said that which answer was better, or how good it was, and why.

A judgement is a record, whoever made it: a model, a rule, or you; they stand in one file and can be compared.
No verdict is a value with its reason, never a zero.
Nothing here talks to a model itself: it is given replies.
"""
