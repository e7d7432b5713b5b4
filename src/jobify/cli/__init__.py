"""The command ``jobify`` (extra ``[cli]``): run workers, and inspect and change jobs from a terminal or a script.

Each command (:mod:`.commands`) loads the app (:mod:`.app_loader`), opens a session (:mod:`.session`), and prints its
result (:mod:`.output`): as a table on a terminal, as lines with tabs in a pipe, as one JSON document with ``--json``.
:mod:`.main` combines the commands and turns errors into one line and an exit code (:mod:`jobify.worker.exit_codes`).

Commands must start fast. So :mod:`.main` imports the module of one command, and no module here imports rich, the app
or a storage at its top level, but where the import is used.
"""
