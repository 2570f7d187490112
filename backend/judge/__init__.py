"""Scores one answer, or compares two: by a rule, by a model, or by the votes of people.

A failed judgement is stored with its reason and without a number, so that it is never mistaken for a low score.

    check         tests a judge on probes whose worth is known
    client        the interface of a model that judges
    grader        a score for one answer, from a model that judges
    local_judge   a model on this machine as a judge
    pairwise      which of two answers is better, asked in both orders
    prompt        the prompt for a judge, and the format of its reply
    remote_judge  a model at an OpenAI-compatible address as a judge
    reply         parses a judge's reply
    rubric        criteria, scales and rules
    rule_judge    a score by similarity to the reference, without a model
    score         Identity, Item and Score, as they are stored
    votes         votes between answers, and the file with them
"""
