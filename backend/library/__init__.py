"""Manages the model files on this machine: download, import, verification, speed test and removal.

New files are staged in `weights/.arriving/` and renamed to their final folder only when they are complete and verified.

    describe        everything that is known about one variant
    download        worker: downloads a file of the Hub and registers it
    import_files    worker: imports files of this machine
    library         lists the variants and starts the workers
    register        checks a new file and moves it to its final folder
    requests        requests to the workers
    speed_test      worker: measures tokens per second
    status          status of transfers, and results of speed tests
    verify          worker: compares a file with its checksum
    weights_folder  staging, installing and removing in the weights folder
"""
