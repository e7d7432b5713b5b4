"""Submitting and asking without a running app: what ``delay``, ``enqueue`` and a :class:`~jobify.JobResult` stand on.

=============  =====================================================================
``access``     a storage, opened when it is needed, in any thread and after a fork
``targets``    a task's name, resolved: what its jobs need to know
``rows``       from a request to a row
``submitter``  requests → rows → one insert → handles; ``through`` runs middleware
``helper``     a thread for async callers, who share its commits
``listener``   hearing how jobs end; ``waits`` is who waits
``desk``       what a handle asks for; ``endings`` what a row means to its user
``board``      which jobs, queues, workers and schedules there are
``orders``     what is done to queues, schedules and ended jobs
``client``     puts them together; ``producer`` is the app's face of it
=============  =====================================================================

No event loop is needed, and no engine: whether one runs in this process makes no difference.
"""
