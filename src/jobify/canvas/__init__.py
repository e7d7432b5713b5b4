"""Workflows: chains, groups and chords of jobs, durable from the moment they are applied.

::

    from jobify import chain, chord, group

    chain(fetch.s(url), parse.s(), store.s("pages")).apply()     # each gets the result of the one before it
    group(fetch.s(url) for url in urls).apply()                  # all at once
    chord(group(fetch.s(url) for url in urls), merge.s()).apply()  # merge gets the list of their results

``apply`` stores all jobs in one transaction and returns; no process has to stay for the workflow to go on. A job waits
for those before it as any job does for its ``depends_on``: if one of them fails or is cancelled, what comes after it is
cancelled.

=============  ===========================================================
``step``       the base of all parts, the batch that they become, and chains
``signature``  one call of a task, as a value: the smallest step; groups and chords
=============  ===========================================================
"""

from __future__ import annotations

from jobify.canvas.signature import Signature, chord, chunks, group, starmap
from jobify.canvas.step import chain

__all__ = ("Signature", "chain", "chord", "chunks", "group", "starmap")
