"""A judge behind an OpenAI-compatible address: asked with what was negotiated, paid for within limits.

Every call is written into the ledger before it is made. The key is in no sentence, no record and no error.
What asks imports the openai client, so it is for workers; addresses, prices and the ledger are for all.
"""
