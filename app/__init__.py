"""The page. Gradio is imported here and nowhere else. A handler parses its controls, calls `lab`, and shows the result.

`backend` does not import this package. Tabs do not use each other's components.

    page              builds the page, and serves it
    guard             owner or visitor; handlers that change something ask here first
    middleware        which HTTP requests reach the app
    visitor_limits    how much one visitor may send
    forms             forms drawn from pydantic classes, and read back
    markup            untrusted text to HTML that shows it and does nothing
    polling           live sections: read run folders once per tick, send what has changed
    streams           answers that arrive in a tab, by session
    browser_download  texts that the browser saves as files
    chat              the Chat tab
    compare           the Compare tab
    train             the Train tab
    runs              the Runs tab
    judge             the Judge tab
    library           the Library tab
"""
