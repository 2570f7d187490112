"""Statistics of scores: paired comparisons, agreement of judges, power.

It knows no models, runs or pages.

    agreement  correlation, agreement of two judges, a mean corrected by human ratings
    paired     means with intervals, paired tests, Holm's correction, sample sizes
"""
