"""Jobs in the memory of one process: the port in plain Python, and what it means in case of doubt.

``rows`` says what each event makes of a row, ``table`` keeps rows, ``dependencies`` tells those that wait for the end
of one. ``adding``, ``claiming``, ``ending`` and ``owning`` write, ``listing`` reads. ``storage`` puts all of it behind
the port.
"""

from jobify.storage.memory.storage import MemoryStorage

__all__ = ("MemoryStorage",)
