"""calls.py CALL[,ARGUMENT...]...: makes system calls by their numbers, with -1 for every argument that is not
given, and prints one line for each: the name of its error, or 0."""

import ctypes
import errno
import sys

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
for words in sys.argv[1:]:
    number, *given = (int(word) for word in words.split(","))
    arguments = given + [-1] * (6 - len(given))
    failed = libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments)) == -1
    print(errno.errorcode[ctypes.get_errno()] if failed else 0, flush=True)
