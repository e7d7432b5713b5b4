"""Jobs in the memory of one process: the port in plain Python, and what it means in case of doubt.

``rows`` says what each event makes of a row, ``table`` keeps rows, ``storage`` puts both behind the port.
"""

from jobify.storage.memory.storage import MemoryStorage

__all__ = ("MemoryStorage",)
