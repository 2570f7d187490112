"""The screen: wiring only. A handler parses, calls the lab, shows.

Anything with an `if` about the domain belongs to `backend`; anything that formats belongs to `show`.
Tabs never hold each other's components; they meet through files.
"""
