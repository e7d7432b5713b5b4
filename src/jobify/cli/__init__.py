"""The command ``jobify`` (extra ``[cli]``): workers, and a look at jobs from a terminal or a script.

Each command finds the app (:mod:`.locate`), asks it what any process may ask (:mod:`.desk`), and shows the answer
(:mod:`.output`): as a table on a terminal, as lines with tabs in a pipe, as one JSON document with ``--json``.
:mod:`.main` puts them together and turns errors into one line and an exit code (:mod:`jobify.worker.exit_codes`).

``jobify --help`` is to be there at once. So nothing here imports rich, the app or a storage at the top of a module, but
where it is used.
"""
