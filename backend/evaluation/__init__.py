"""Evaluations: questions x variants, their answers, scores and verdict, in the folder of a run.

evaluations       what the page calls: plan, start, stop, resume, results, ratings
request           the settings of an evaluation
imported_answers  answers from a file
cost_forecast     calls, tokens, dollars and time before the start
evaluate          WORKER: questions, answers, scores
answering         questions from rows, and the answers of variants
judge_setup       opens the judge of an evaluation
scoring           scores several answers at the same time
records           the files of an evaluation's folder
result            an evaluation read from its folder
contrasts         the table of scores, planned contrasts and their tests
verdict           every number of the verdict
sentence          the verdict in two or three sentences
human_ratings     blind ratings, and agreement with the judge
"""
