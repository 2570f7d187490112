"""A client for OpenAI-compatible chat APIs, with retries, prices and a ledger of what every call costs.

`client`, `negotiate` and `retry` import openai or what imports it: only workers import these three.

    address       normalises the address and the key of a remote judge
    capabilities  which request parameters an address accepts
    client        makes one call and enters it in the ledger
    errors        what can go wrong with a call, and the sentence for it
    ledger        what calls cost, the spending limits, and saved replies
    negotiate     finds out with one question which parameters an address accepts
    prices        dollars per million tokens, and when a model retires
    response      parses the body of a response
    retry         calls again after temporary errors, with pauses
"""
