"""Runs: folders with a request, events, a log and an end. The status of a run is read from its folder.

A runner process is between the app and the worker: either can die without the other. Workers are modules in the
string table `JOBS` and are never imported.

    run           one run, read from its folder
    folders       the files of a run's folder, and why one cannot be read
    events        events.jsonl: what happened
    status        RunStatus, one reading of a run
    launcher      JOBS, and starting or resuming a run
    runner        WORKER: starts the job's worker, stops it, writes exit.json
    journal       the worker's side: read the request, write events, stop
    fake_request  the request of the fake job
    fake          WORKER: the fake job, which shows how runs behave
"""
