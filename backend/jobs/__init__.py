"""A run is a folder: what was asked, what happened, what was printed, how it ended. Its state is derived by reading.

A runner stands between the screen and the work, so that either may die without the other, and a worker is a module in
the string table `JOBS`. Alive means that some process holds the run's lock; a process id alone is never signalled.
"""
