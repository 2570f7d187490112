"""From a table of scores to what can be said: paired, corrected, and with the rows that would settle it.

Values in, values out: nothing here reads a file or talks to anybody, and the order of rows changes no number.
A failure is no number; data that cannot carry one give words.
"""
