"""Jobs in the memory of one process: the port in plain Python, and what it means in case of doubt.

==================  =================================================================================
``storage``         the port over the parts below
``rows``            a job as a value, and its edges to other jobs; ``transitions`` what each event makes of it
``table``           rows by id and in queues; transactions
``operations``      insert, replace, retry, cancel, expire, delete, purge, trim; ``claiming`` claims
``dependencies``    what the end of a job does to those that depend on it, and what a retry brings back; ``needs``
                    which ended jobs others still need
``owners``          processes, and the jobs of those that left or died
``queries``         find, count, relations, messages; ``times`` changes of the clock
==================  =================================================================================
"""

from jobify.storage.memory.storage import MemoryStorage

__all__ = ("MemoryStorage",)
