"""An evaluation: rows x variants, their answers, what a judge said of each, and the verdict, in the folder of a run.

Everything is appended as it comes and nothing is asked twice: what is missing is the difference of two files.
Whoever shows an evaluation reads its folder; the worker writes it.
"""
